// Double precision: bodies that attract each other.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BODIES = 5 };

static struct { double position[3], speed[3], mass; } body[BODIES] = {
    { { 0, 0, 0 }, { 0, 0, 0 }, 40 },
    { { 5, -1, 0.1 }, { 0.6, 2.8, -0.02 }, 0.04 },
    { { 8, 4, -0.4 }, { -1.0, 1.8, 0.01 }, 0.01 },
    { { 13, -15, -0.2 }, { 1.1, 0.9, -0.01 }, 0.002 },
    { { 15, -26, 0.2 }, { 1.0, 0.6, -0.03 }, 0.002 },
};

static void step(double time)
{
    for (int a = 0; a < BODIES; a++)
        for (int b = a + 1; b < BODIES; b++) {
            double d[3], square = 0;
            for (int n = 0; n < 3; n++) {
                d[n] = body[a].position[n] - body[b].position[n];
                square += d[n] * d[n];
            }
            double pull = time / (square * sqrt(square));
            for (int n = 0; n < 3; n++) {
                body[a].speed[n] -= d[n] * body[b].mass * pull;
                body[b].speed[n] += d[n] * body[a].mass * pull;
            }
        }
    for (int a = 0; a < BODIES; a++)
        for (int n = 0; n < 3; n++)
            body[a].position[n] += time * body[a].speed[n];
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1000;
    for (int round = 0; round < rounds; round++)
        step(0.001);
    double energy = 0;
    for (int a = 0; a < BODIES; a++)
        for (int n = 0; n < 3; n++)
            energy += 0.5 * body[a].mass * body[a].speed[n] * body[a].speed[n];
    printf("%.6f\n", energy);
    return 0;
}
