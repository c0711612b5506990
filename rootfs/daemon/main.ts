/** Loaded when it is chosen: a role needs little of what the others do, and modules of Node take long to load. */
const roles: Readonly<Record<string, () => Promise<void>>> = {
  agent: async () => (await import('./agent/agent.ts')).runAgent(process.argv[3]),
  server: async () => (await import('./server/server.ts')).runServer(),
  client: async () => (await import('./client/client.ts')).runClient(),
};

const role = roles[process.argv[2] ?? ''];
if (role === undefined) {
  process.stderr.write('usage: daemon.js agent [PORT]|server|client\n');
  process.exit(2);
} else {
  void role();
}
