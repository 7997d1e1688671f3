# Digests, ciphers and signatures against known answers, and a connection.
test "`printf abc | openssl sha256 -r`" = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad *stdin"
test "`printf abc | openssl sha1 -r`" = "a9993e364706816aba3e25717850c26c9cd0d89d *stdin"
test "`printf abc | openssl sha512 -r | cut -c 1-32`" = ddaf35a193617abacc417349ae204131
# FIPS 197, appendix C.1.
printf '\000\021\042\063\104\125\146\167\210\231\252\273\314\335\356\377' > plain
openssl enc -aes-128-ecb -nopad -K 000102030405060708090a0b0c0d0e0f -in plain -out secret
test "`od -An -tx1 secret | tr -d ' \n'`" = 69c4e0d86a7b0430d8cdb78070b4c55a
head -c 1000000 /bin/bash > data
for cipher in aes-256-cbc aes-128-ctr chacha20 camellia-128-cbc; do
    openssl enc -$cipher -pbkdf2 -k word -in data -out data.enc
    openssl enc -d -$cipher -pbkdf2 -k word -in data.enc | cmp - data
done
for kind in "RSA -pkeyopt rsa_keygen_bits:2048" "EC -pkeyopt ec_paramgen_curve:P-256" "ED25519"; do
    openssl genpkey -quiet -algorithm $kind -out key 2>/dev/null || openssl genpkey -algorithm $kind -out key
    openssl pkey -in key -pubout -out public
    openssl pkeyutl -sign -inkey key -rawin -in plain -out signature
    openssl pkeyutl -verify -pubin -inkey public -rawin -in plain -sigfile signature
done
openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -days 2 -subj /CN=localhost 2>/dev/null
openssl s_server -accept 127.0.0.1:14433 -key tls.key -cert tls.crt -www -naccept 1 >/dev/null 2>&1 &
sleep 5
printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -connect 127.0.0.1:14433 -CAfile tls.crt -verify_return_error -quiet 2>/dev/null | grep -q TLSv1.3
wait
