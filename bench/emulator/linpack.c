// Double precision: systems of linear equations solved by elimination.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 150 };

static double a[N][N], b[N];

static double solve(int seed)
{
    unsigned random = seed;
    for (int row = 0; row < N; row++) {
        b[row] = 0;
        for (int column = 0; column < N; column++) {
            random = random * 1664525 + 1013904223;
            a[row][column] = (random >> 8) / 16777216.0 - 0.5;
            b[row] += a[row][column];
        }
    }
    for (int k = 0; k < N; k++) {
        int pivot = k;
        for (int row = k + 1; row < N; row++)
            if (fabs(a[row][k]) > fabs(a[pivot][k]))
                pivot = row;
        for (int column = 0; column < N; column++) {
            double held = a[k][column];
            a[k][column] = a[pivot][column];
            a[pivot][column] = held;
        }
        double held = b[k];
        b[k] = b[pivot];
        b[pivot] = held;
        for (int row = k + 1; row < N; row++) {
            double factor = a[row][k] / a[k][k];
            for (int column = k; column < N; column++)
                a[row][column] -= factor * a[k][column];
            b[row] -= factor * b[k];
        }
    }
    double sum = 0;
    for (int row = N - 1; row >= 0; row--) {
        for (int column = row + 1; column < N; column++)
            b[row] -= a[row][column] * b[column];
        b[row] /= a[row][row];
        sum += b[row];
    }
    return sum;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    double sum = 0;
    for (int round = 0; round < rounds; round++)
        sum += solve(round + 1);
    printf("%.5f\n", sum);
    return 0;
}
