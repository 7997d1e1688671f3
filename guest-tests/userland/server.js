const http = require('http');
const [total, clients] = process.argv.slice(2).map(Number);
let left = total, open = clients, served = 0;
const agent = new http.Agent({ keepAlive: true, maxSockets: clients });
const server = http.createServer((request, response) => {
  served++;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ url: request.url, twice: Number(request.url.slice(1)) * 2 }));
});
function next() {
  if (left === 0) {
    if (--open === 0) {
      agent.destroy();
      server.close();
      if (served !== total) throw new Error(`${served} of ${total} requests`);
      console.log(`${served} requests`);
    }
    return;
  }
  const number = left--;
  http.get({ host: '127.0.0.1', port: server.address().port, path: `/${number}`, agent }, (response) => {
    let text = '';
    response.on('data', (piece) => { text += piece; });
    response.on('end', () => {
      if (JSON.parse(text).twice !== number * 2) throw new Error(text);
      next();
    });
  });
}
server.listen(0, '127.0.0.1', () => { for (let n = 0; n < clients; n++) next(); });
