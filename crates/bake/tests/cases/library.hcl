# A key for this test only.
variable "KEY" {
  default = <<EOT
-----BEGIN RSA PRIVATE KEY-----
MIIEpAIBAAKCAQEA3s8vtukLDoMNCnEFnJTv8O1OjsuqJuW4vvuoutjKr316DB7a
diXZR5TnqP1iPtnu4FhSL+yQo2arClbvCx7C6TvkczyABDtn6IJeyXhmNnCT0VQq
0yNMOvRtFTPfaxNLMMMgH0nwu8aC1StYk9sg5k7BmNDESwCDo4QeQNTZ2BmkOKbN
Okq2nWoZYRuut0eocnmPWZRtbuqIubaZQcS5iCsiuUDCH6ilY1XMiB/N4ZMuEC+4
2eAksq2YBL4k4iPfCY/IvIndNtzMgcUpAgqFYzkp226+DB9/+HQoXDzVxJ7ra2GF
FNld73ZWY6zmcuuqiIVpcETAvOGdB9AtIXWP5wIDAQABAoIBACqKExmQf+Bq6/P4
5THii7cLj8qanudjR7UK9kmKN5Ru1/z1bQ9OpZ/RkbNFgVrvn/hsVHC68ViJMxG7
zFLqshr2qOTJgcWNFAcj0PYVSyqMruQx9iUuoZDF9weryjW2zs3GC1197/zh5zvM
1VIRbcQa+EJ1ZWzOcdOn12DYYqkrzOEXsF7ihY0Pd1m/XNRUy90PfCqfgTfmqpxB
CCUMx5B5ZryAm5Lrtv1/35o18D1zW7TLIvoarxcagq1lnYXmVE6wEODEFuCSICF5
SYAYDOQNFL4z8HFiSgOrq5Z6dFaxpzAY3CsXfWQyKETGYgRWdQDcWogar3ufiGto
lyZ/5E0CgYEA9RToOiOvggCLhsvaxyotCLb8r1EJmCMgdElwccR9h3BmouT9Hri5
rzJ+CI0z8bglB/l0Jcjh03L6kmXSCpGVOysIENdAuvu7DGQEEU9tiG6+ViGiEaNL
2W+yLkYULKI9pb8CK+2/LVc+vIeDJY1YIWvp4VbHPMCUNM6YHeO0tgMCgYEA6LxE
108jYBPPhCT6ObZ12/p5wBqioYEw7gHHhaHcfzB+XrUGk0JI1QBDsqD1u5UQ3tsW
DR+BlPGNUcsmWk00cKNiW53HvqFzL371j8RXI7lH2zfoi+7+5NL4jsNT2CMWA5/z
2TCFS72YhMHj07mrsPsbpCkjLLgkHm/38ClNm00CgYB9I1K8NPJth8e2aSppXWCn
PX/iKJekhfMRTVpLzM9ns33EmPWhlSLCkR6HUUn/l03ZN4cVr++W3vOQgsrvuIwh
LQSuTKpxjw1f80WcbRj5e8pWAlBVfzLAcGbjd8bfT2v40IHUWk2uYgjXjL3rE7O3
RPmjpIKQw6gpGn/TaywfbwKBgQDcxmPjf24GYSSUrWM1RjHNqHDAXEP0QxKAZO25
hY8elIj8HGuNW+6tKCAQHoKdHE4xqdDkSAPrn6y4b6cFOIHLbCIM2MK3wn37C0u0
wsMK32MbwJB31hK0TLF+9CngOYBTlfODD3UTIVrCbQ9LNLF7JOnWszNr445X1U10
5Cl7bQKBgQDqBzfD0n3wp+AC/QQLAH53VHN/5DDsF1nKerY6QS5zqx8roVFEleag
/NiVYe8aTiWe2P78fWWz3Ns9wAU44wP8uPO31rlrXHXC3BFP2iapZ893P2HHM5cM
jop0jnXybitI54LPdOrrgJozC6Y/o2u+r8Yg9KEBo3YmCb0+pwe7yg==
-----END RSA PRIVATE KEY-----
EOT
}
target "default" {
  args = {
    CH = join(" ", [cidrhost("10.12.112.0/20", 16), cidrhost("10.12.112.0/20", -1), cidrhost("fd00:fd12:3456:7890:00a2::/72", 34)])
    CM = join(" ", [cidrnetmask("172.16.0.0/12"), cidrnetmask("0.0.0.0/0"), cidrnetmask("1.2.3.4/32")])
    CS = join(" ", [cidrsubnet("172.16.0.0/12", 4, 2), cidrsubnet("10.1.2.0/24", 4, 15), cidrsubnet("fd00:fd12:3456:7890::/56", 16, 162), cidrsubnet("10.0.0.1/8", 0, 0)])
    CSS = join(" ", cidrsubnets("10.1.0.0/16", 4, 4, 8, 4))
    CS6 = join(" ", cidrsubnets("fd00:fd12:3456:7890::/56", 16, 16, 16, 32))
    CF = join(" ", cidrsubnets("10.0.0.0/8", 1, 1))
    FD = formatdate("YYYY YY M MM MMM MMMM D DD EEE EEEE h hh H HH AA aa m mm s ss Z ZZZ ZZZZ ZZZZZ", "2018-01-02T03:04:05Z")
    FO = formatdate("Z ZZZ ZZZZ ZZZZZ h H AA 'it''s' YYYY-MM-DD'T'hh:mm", "2006-11-22T23:04:05.25-07:30")
    FN = formatdate("H:mm aa, D MMM", "2024-02-29T00:00:00+01:00")
    TA = join(" ", [timeadd("2017-11-22T00:00:00Z", "10m"), timeadd("2017-11-22T00:00:00+02:00", "-1h30m5s"), timeadd("2024-02-28T23:59:59.5Z", "1s")])
    MD = md5("hello")
    S1 = sha1("hello")
    U5 = join(" ", [uuidv5("dns", "www.terraform.io"), uuidv5("url", "https://x"), uuidv5("oid", "1.3"), uuidv5("x500", "CN=a"), uuidv5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "tada")])
    SH = "${sethaselement(["a", "b"], "b")} ${sethaselement(["a"], "c")}"
    SD = join(" ", setsymmetricdifference(["a", "b"], ["b", "c"]))
    SD3 = join(" ", setsymmetricdifference(["a", "b"], ["b", "c"], ["a", "d"]))
    RD = rsadecrypt("lBkdOx6lO8ca6CTE7pNbZIZFekYphXmq3HSIHXnl7vYepQ5CiRV/3gTTvwGBmlN6UcqjWiYdcdkakxC5U8FJ0Rk8xNaWGoC/5Ju4rObYhteJPOR3gubxTkxXToO/rPNX3v4RYk82kGRyP/R8O1xdL+dqyoHCyTiaOK0DPGzAcTvLT9ploTOeVoUrBv6juuwm7N8fNXF5DYWgW6FuYKk0LONttp/Ag/e5nU/PSnxABjd7vRljj+AUBwV9vfYdsP609upDjou2I1fQDRyGVTqWoFkzk9Z6kOMqHyeHScSESiM1/U1fjgAGtbgtK+R1+/4d3EPUDEgzIRIx8Tju4AJIhQ==", KEY)
    UL = strlen(uuidv4())
  }
}
