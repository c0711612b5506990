import { text } from './bytes.ts';
import type { Client } from './client.ts';

/** Options of the filesystem that is mounted at `target`, as the kernel shows them: `rw` or `ro`, then its own. */
export async function shownOptions(client: Client, target: string): Promise<string[]> {
  const lines = text(await client.readFile({ path: '/proc/self/mountinfo' })).split('\n');
  const line = lines.find((one) => one.split(' ')[4] === target);
  if (line === undefined) throw new Error(`there is no mount at ${target}`);
  return (line.split(' ').at(-1) ?? '').split(',');
}
