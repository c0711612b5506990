import type { Client } from './client.ts';
import type { TestGuest } from './guest.ts';

/** The first of the ids on an idmapped mount, which is root's below it: nine more follow. */
export const MAPPED = 1000;

/** Ids of a directory, and what they are where it is mounted: `count` from `inside` on become those from `outside` on. */
interface IdMap {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

/** What is added to the numbers of users and groups below where nothing else is said. */
export const SHIFT = 10_000;
export const SHIFTED: IdMap = { inside: 0, outside: SHIFT, count: 5000 };

/** Gives a process that is in a user namespace of its own ids there; each line as in /proc/pid/uid_map. */
export async function mapIds(root: Client, pid: number, lines: readonly string[]): Promise<void> {
  for (const map of ['uid_map', 'gid_map']) {
    await root.writeFile({ path: `/proc/${pid}/${map}`, data: `${lines.join('\n')}\n`, flags: 'O_WRONLY' });
  }
}

/** A process whose user namespace has these ids: of root and nine more, known outside as 1000 and up. */
export async function namespace(
  guest: TestGuest,
  root: Client,
  ids: readonly string[] = [`0 ${MAPPED} 10`],
): Promise<Client> {
  const client = await guest.client({ launcher: ['unshare', '--user'] });
  // Who answers is in the namespace: before, the launcher may still be on its way into it.
  await client.getpid({});
  await mapIds(root, client.pid, ids);
  return client;
}

/** What is mounted there goes before its server does. */
export function mounted(client: Client, target: string): AsyncDisposable {
  return {
    [Symbol.asyncDispose]: async () => {
      await client.umount2({ target, flags: 'MNT_DETACH' });
    },
  };
}

/** That directory where ids are mapped so. */
export async function idmapped(
  guest: TestGuest,
  root: Client,
  source: string,
  { inside, outside, count }: IdMap = SHIFTED,
): Promise<AsyncDisposable & { readonly path: string }> {
  await using idmap = await namespace(guest, root, [`${inside} ${outside} ${count}`]);
  const path = await guest.directory('area', 'idmapped');
  await root.mountIdmapped({ source, target: path, namespaceOf: idmap.pid });
  return { path, ...mounted(root, path) };
}
