import { runAgent } from './agent/agent.ts';
import { runClient } from './client/client.ts';
import { runServer } from './server/server.ts';

const roles: Readonly<Record<string, () => void>> = {
  agent: () => runAgent(process.argv[3]),
  server: runServer,
  client: runClient,
};

const role = roles[process.argv[2] ?? ''];
if (role === undefined) {
  process.stderr.write('usage: daemon.js agent [PORT]|server|client\n');
  process.exit(2);
} else {
  role();
}
