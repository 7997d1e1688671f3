# Compresses and decompresses with every level and some options (--long=31 is for programs of 64 bits only).
cat /bin/bash /usr/bin/perl | head -c 2000000 > data
for level in 1 3 9 15 19; do
    zstd -q -f -$level -T2 data -o data.zst
    zstd -q -t data.zst
    zstd -q -d -c data.zst | cmp - data
done
zstd -q -f --ultra -22 --long data -o data.zst && zstd -q -d --long=30 -c data.zst | cmp - data
for tool in gzip xz bzip2; do
    if command -v $tool > /dev/null; then $tool -c data > data.x; $tool -dc data.x | cmp - data; fi
done
