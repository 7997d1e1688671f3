import concurrent.futures
import multiprocessing
import queue
import subprocess
import threading


def square(n):
    return n * n


def main():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(square, range(2000))) == sum(n * n for n in range(2000))
    with multiprocessing.Pool(4) as pool:
        assert pool.map(square, range(500)) == [n * n for n in range(500)]
    lock, box, total = threading.Lock(), queue.Queue(maxsize=5), [0]

    def consumer():
        while (item := box.get()) is not None:
            with lock:
                total[0] += item

    threads = [threading.Thread(target=consumer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(3000):
        box.put(n)
    for _ in threads:
        box.put(None)
    for thread in threads:
        thread.join()
    assert total[0] == sum(range(3000))

    def run():
        return subprocess.run(["/bin/echo", "x"], capture_output=True, check=True).stdout

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(out == b"x\n" for out in pool.map(lambda _: run(), range(100)))
    print("done")


if __name__ == "__main__":
    main()
