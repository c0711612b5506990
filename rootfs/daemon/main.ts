import { runAgent } from './agent/agent.ts';
import { runClient } from './client/client.ts';
import { runServer } from './server/server.ts';

const roles: Readonly<Record<string, () => void>> = {
  agent: runAgent,
  server: runServer,
  client: runClient,
};

const role = roles[process.argv[2] ?? ''];
if (role === undefined) {
  process.stderr.write('usage: daemon.js agent|server|client\n');
  process.exit(2);
} else {
  role();
}
