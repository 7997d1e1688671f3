variable "REPO" {
  default = "first"
}
group "default" {
  targets = ["one"]
}
group "more" {
  targets = ["default", "two", "nested"]
}
group "nested" {
  targets = ["two", "one"]
}
target "one" {
  args = { A = "1", B = "2" }
  tags = ["${REPO}:1"]
  annotations = ["a=1"]
  cache-from = ["type=registry,ref=x"]
  platforms = ["linux/amd64"]
}
target "two" {
  inherits = ["one", "mixin"]
  contexts = { one = "target:one" }
}
target "mixin" {
  args = { B = "3", C = "4" }
  cache-from = ["type=gha"]
  labels = { m = "mixin" }
}
