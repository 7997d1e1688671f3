# gcc compiles lua, which runs a program.
cp -r /soak/lua lua
cd lua
make -s -C src CC=gcc MYCFLAGS=-DLUA_USE_LINUX 'MYLIBS=-Wl,-E -ldl' lua
test "`src/lua /soak/check.lua`" = "all right"
