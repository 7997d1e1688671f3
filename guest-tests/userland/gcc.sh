# gcc's own helpers: preprocess, compile with debugging information, link shared, run, dynamic loading.
cat > lib.c <<'C'
int twice(int n) { return 2 * n; }
C
cat > main.c <<'C'
#include <dlfcn.h>
#include <stdio.h>
__thread int counter = 3;
int main(void) {
    void *library = dlopen("./lib.so", RTLD_NOW);
    int (*twice)(int) = (int (*)(int))dlsym(library, "twice");
    printf("%d\n", twice(counter) * counter);
    return dlclose(library);
}
C
for options in "-O0 -g" "-O2 -flto" "-O3 -fsanitize=undefined" "-Os -fno-plt" "-O2 -pg"; do
    gcc -shared -fPIC $options -o lib.so lib.c
    gcc $options -o main main.c -ldl
    test "`./main`" = 18
done
gcc -Os -fPIE -pie -o main main.c -ldl
test "`./main`" = 18
