variable "REPO" {
  default = "second"
}
target "one" {
  args = { A = "9" }
  tags = ["${REPO}:2", "${REPO}:3"]
  annotations = ["b=2"]
  cache-from = ["type=registry,ref=y"]
}
