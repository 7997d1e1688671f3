// Functions of libm.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1000;
    double sum = 0;
    for (int round = 1; round <= rounds; round++) {
        double x = round / 1000.0;
        sum += sin(x) * cos(x) + exp(-x / 50) + log(x) + pow(x, 0.3) + atan2(x, 3) + tan(x / 1000) + floor(x) / x;
        sum += fmod(x, 7) + cbrt(x) + sinf(x) + expf(-x);
    }
    printf("%.3f\n", sum);
    return 0;
}
