import { text } from './bytes.ts';
import type { Client } from './client.ts';

export interface Mounted {
  /** Minor number of its device: of a FUSE, the number of the connection. */
  readonly minor: string;
  /** Of the filesystem, as the kernel shows them, separated by commas: `rw` or `ro`, then its own. */
  readonly options: string;
}

/** What /proc/self/mountinfo says of the mount at `target` (proc_pid_mountinfo(5)). @throws Error when there is none. */
export async function mountedAt(client: Client, target: string): Promise<Mounted> {
  const lines = text(await client.readFile({ path: '/proc/self/mountinfo' })).split('\n');
  const fields = lines.map((line) => line.split(' ')).find((each) => each[4] === target);
  if (fields === undefined) throw new Error(`there is no mount at ${target}`);
  return { minor: fields[2]?.split(':')[1] ?? '', options: fields.at(-1) ?? '' };
}

/** Of an overlay: those that say neither where layers are nor whether they can be written. */
export async function overlayOptionsAt(client: Client, target: string): Promise<string[]> {
  const options = (await mountedAt(client, target)).options.split(',');
  return options.filter((option) => !/^(rw|ro|.*dir=\/.*)$/.test(option));
}
