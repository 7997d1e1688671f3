"""What Python programs do: objects, dictionaries, strings, numbers, regular expressions, sorting."""
import json
import re
import sys


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def move(self, dx, dy):
        return Point(self.x + dx, self.y + dy)


def main(rounds):
    total = 0
    words = [chr(97 + n % 23) + str(n * 7919 % 1009) for n in range(1000)]
    for number in range(rounds):
        point = Point(0, 0)
        for n in range(1000):
            point = point.move(n & 3, -1)
        count = {}
        for word in words:
            count[word[:2]] = count.get(word[:2], 0) + 1
        text = " ".join(sorted(words, key=lambda word: (word[-1], word)))
        total += point.x + len(re.findall(r"\b[a-f]\d+7\b", text)) + sum(count.values())
        total += len(json.dumps(json.loads(json.dumps({"n": number, "words": words[:200]}))))
        total += sum(n * n % 7 for n in range(2000)) + 3 ** 200 % 1009
        total += int(sum(n / 3.0 for n in range(1000)))
    print(total)


main(int(sys.argv[1]))
