target "app" {
 tags = ["hcl:1"] 
 args = { A = "hcl", "x$${y" = "a$${b %%{z" } 
 labels = { "k" = "v$${w" }
 annotations = ["a=$${z"]
 contexts = { n = "docker-image://x$${q" }
 dockerfile = "d$${f"
 cache-to = ["type=local,dest=x$${y"]
 target = "$${t"
}
group "default" {
  targets = ["app"]
}
