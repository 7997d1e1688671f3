variable "TAG" { 
  default = "latest" 
}
variable "N" { 
  default = 3
}
variable "ON" { 
  default = true
}
x = "glob-${TAG}"
function "up" { 
  params = [a]
  variadic_params = rest
  result = join("-", [for v in concat([upper(a)], rest) : "${v}"])
}
group "default" { 
  targets = ["app", "m", "g2"]
}
group "g2" {
  targets = ["base"]
}
target "base" { 
  dockerfile = "Dockerfile.${x}"
  args = { A = "1", B = null, N = N + 1, C = ON ? "yes" : "no" }
  labels = { "a.b" = up("x", "y") }
  cache-from = ["type=registry,ref=a/b", "user/img"]
  platforms = ["linux/amd64", "linux/arm64"]
  secret = ["id=x,env=HOME", { type = "env", id = "TOK", env = "HOME" }]
  attest = ["type=provenance,mode=max", "type=sbom"]
  output = ["type=local,dest=./out", { type = "registry" }]
  annotations = ["index:a=b"]
  ulimits = ["nofile=1024:2048"]
  shm-size = "64m"
  network = "none"
  no-cache = true
  pull = true
  call = "check"
  entitlements = ["network.host"]
  extra-hosts = { h = "1.2.3.4" }
  no-cache-filter = ["st"]
  description = "the base"
}
target "app" {
  inherits = ["base"]
  context = "./app"
  contexts = { base = "target:base", src = "https://x.test/a.git#b" }
  tags = ["app:${TAG}", notequal("", TAG) ? "app:x" : ""]
  args = { A = "2", D = target.base.args.A }
  dockerfile-inline = <<EOT
FROM scratch
EOT
}
target "m" {
  name = "m-${item.a}-${replace(v, ".", "-")}"
  matrix = {
    item = [{ a = "one" }, { a = "two" }]
    v = ["1.0", "2.0"]
  }
  target = item.a
  args = { V = v }
}
