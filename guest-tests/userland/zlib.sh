# gcc compiles zlib, and zlib's own tests pass.
cp -r /soak/zlib zlib
cd zlib
./configure
make -s -j2
make -s test | tee test.log
grep -q '\*\*\* zlib test OK \*\*\*' test.log
