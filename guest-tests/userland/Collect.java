import java.util.*;
import java.util.concurrent.*;

public class Collect {
    static long work(int seed) {
        Map<Integer, byte[]> kept = new HashMap<>();
        Random random = new Random(seed);
        long sum = 0;
        for (int n = 0; n < 20000; n++) {
            kept.put(random.nextInt(500), new byte[random.nextInt(4000)]);
            if (n % 100 == 0) {
                try {
                    Object nothing = n % 200 == 0 ? null : "text";
                    sum += nothing.hashCode() & 1;
                } catch (NullPointerException caught) {
                    sum += 3;
                }
            }
        }
        for (byte[] bytes : kept.values()) sum += bytes.length;
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> results = new ArrayList<>();
        for (int n = 0; n < 8; n++) {
            final int seed = n % 4;
            results.add(pool.submit(() -> work(seed)));
        }
        for (int n = 0; n < 4; n++) {
            if (!results.get(n).get().equals(results.get(n + 4).get())) throw new IllegalStateException("differs");
        }
        pool.shutdown();
        System.out.println("collected");
    }
}
