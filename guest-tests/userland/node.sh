# A server that answers 10,000 requests of 20 clients.
node /soak/server.js 10000 20
