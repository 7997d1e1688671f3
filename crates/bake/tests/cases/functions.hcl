variable "REPO" {
  default = "docker.io/user"
  validation {
    condition = REPO != ""
    error_message = "REPO is needed"
  }
}
variable "EMPTY" {}
variable "LST" {
  type = list(string)
  default = ["a", "b"]
}
variable "VERSIONS" {
  default = { one = "1.0", two = "2.0" }
}
function "tag" {
  params = [name, v]
  result = ["${REPO}/${name}:${v}", "${REPO}/${name}:latest"]
}
group "default" {
  targets = ["all", "x"]
}
group "all" {
  targets = ["web", "db"]
}
target "_common" {
  args = {
    GO = "1.22"
    L = join(",", LST)
    E = EMPTY
    F = format("%05.2f|%-5s|%d|%q|%x|%v", 3.14159, "ab", 7, "q", 255, true)
    SHA = sha256("abc")
    B64 = base64encode("hello")
    D = base64decode("aGVsbG8=")
    R = regex_replace("a-b-c", "-", "_")
    RX = join(";", regex("(\\d+)\\.(\\d+)", "v1.22"))
    K = join(",", keys(VERSIONS))
    V = join(",", values(VERSIONS))
    M = "${length(LST)}-${max(1, 5, 3)}-${min(4, 2)}-${abs}"
    T = trimspace("  x ")
    S = substr("hello", 1, 3)
    TI = title("hello big world")
    I = indent(2, "a\nb")
    SP = join("|", split(",", "a,b,c"))
    CO = coalesce(null, "z")
    LK = lookup(VERSIONS, "three", "3.0")
    TR = try(VERSIONS.four, "none")
    CN = can(VERSIONS.four)
    RG = join(",", [for n in range(1, 4) : n * 2 if n != 2])
    FM = join(",", [for k, v in VERSIONS : "${k}=${v}"])
    OB = jsonencode({ for k, v in VERSIONS : upper(k) => v })
    TPL = "%{ for v in LST }<${v}>%{ endfor }%{ if REPO == "" }no%{ else }yes%{ endif }"
    DIV = 7 / 2
    MOD = 7 % 4
    NEG = -(3 - 5)
    CMP = 3 > 2 && !(1 >= 2) || false
    SA = sanitize("a/b.c")
    UE = urlencode("a b/c?")
    RV = reverse("abc")
    DN = "${dirname("/a/b/c.txt")} ${basename("/a/b/c.txt")}"
    FL = join(",", flatten([["a"], ["b", ["c"]]]))
    DI = join(",", distinct(["a", "b", "a"]))
    SO = join(",", sort(["b", "a"]))
    CP = join(",", compact(["a", "", "b"]))
    EL = element(["a", "b", "c"], 4)
    IX = index(["x","y"], 1)
    ZP = jsonencode(zipmap(["a", "b"], [1, 2]))
    ST = join(",", setunion(["b"], ["a"]))
    PI = parseint("ff", 16)
    FLR = floor(2.7) + ceil(2.1)
    LEN = strlen("häh")
    HD = <<-EOT
      one
        two
    EOT
  }
}
abs = absolute(-4)
target "web" {
  inherits = ["_common"]
  tags = tag("web", "1")
  platforms = ["linux/amd64", "linux/arm64"]
  cache-to = ["type=inline"]
  output = ["type=image,push=true"]
  annotations = ["org.opencontainers.image.authors=a"]
}
target "db" {
  dockerfile = "db/Dockerfile"
  context = "./x/../db/"
  args = { WEB = target.web.tags[0], SPLAT = join(",", target.web.platforms[*]) }
  tags = tag("db", "2")
}
target "x" {
  matrix = {
    tgt = ["lint", "test"]
  }
  name = "x-${tgt}"
  target = tgt
  output = ["type=cacheonly"]
  no-cache-filter = [tgt]
}
