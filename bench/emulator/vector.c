// Single precision in vectors: products of matrices. The numbers are small integers, so every order of sums is exact.
#include <stdio.h>
#include <stdlib.h>

enum { N = 64 };

static float a[N][N], b[N][N], c[N][N];

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    double sum = 0;
    for (int round = 0; round < rounds; round++) {
        for (int row = 0; row < N; row++)
            for (int column = 0; column < N; column++) {
                a[row][column] = (row + column + round) % 17;
                b[row][column] = (row * 3 + column) % 11;
                c[row][column] = 0;
            }
        for (int row = 0; row < N; row++)
            for (int k = 0; k < N; k++)
                for (int column = 0; column < N; column++)
                    c[row][column] += a[row][k] * b[k][column];
        for (int row = 0; row < N; row++)
            sum += c[row][(row + round) % N];
    }
    printf("%.0f\n", sum);
    return 0;
}
