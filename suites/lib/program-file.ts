import type { Client } from './client.ts';
import type { TestGuest } from './guest.ts';

/** Copies a program of the machine. */
export async function copyProgram(guest: TestGuest, name: string, to: string): Promise<void> {
  const { stdout } = await guest.run(['sh', '-c', `readlink -f "$(command -v ${name})"`]);
  await guest.run(['cp', stdout.trim(), to]);
}

/** A client whose parent is the shell at `path`, which runs until the client is disposed of. */
export async function runningFrom(guest: TestGuest, path: string): Promise<Client> {
  // The shell stays as the parent of the client that it starts.
  const client = await guest.client({ launcher: [path, '-c', '"$@"; exit $?', 'sh'] });
  await client.getpid({});
  return client;
}

/** Whether the shell at `path` can be run now: `ok`, ETXTBSY, or what the machine's own shell says. */
export async function runs(guest: TestGuest, path: string): Promise<string> {
  const { code, stdout } = await guest.tryRun(['sh', '-c', '"$0" -c true 2>&1', path]);
  if (stdout.includes('busy')) return 'ETXTBSY';
  return code === 0 ? 'ok' : stdout.trim();
}
