# Processes and threads of Python under load: pools, locks, queues.
timeout 600 python3 /soak/threads.py
