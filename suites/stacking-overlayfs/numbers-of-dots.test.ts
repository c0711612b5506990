import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';

/** The numbers that a directory of an overlay lists for itself and for the one above: those that stat tells of them. */

const ROOM = 4096;

/** Numbers that getdents64(2) gives by name: `struct linux_dirent64` is u64 ino, s64 off, u16 reclen, u8 type, name. */
async function numbersIn(client: Client, memory: string, path: string): Promise<Map<string, bigint>> {
  const backed = await client.open({ path: memory, flags: 'O_RDWR|O_CREAT' });
  await client.ftruncate({ fd: backed, length: ROOM });
  const prot = 'PROT_READ|PROT_WRITE';
  const map = await client.mmap({ fd: backed, length: ROOM, prot, flags: 'MAP_SHARED' });
  const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
  const length = await client.readdirInto({ fd, map, offset: 0, length: ROOM });
  const entries = Buffer.from(await client.mread({ map, offset: 0, length }));
  await client.munmap({ map });
  for (const each of [fd, backed]) await client.close({ fd: each });
  const numbers = new Map<string, bigint>();
  for (let at = 0; at < length; at += entries.readUInt16LE(at + 16)) {
    const name = entries.toString('utf8', at + 19, entries.indexOf(0, at + 19));
    numbers.set(name, entries.readBigUInt64LE(at));
  }
  return numbers;
}

const LOWER = ['low/', 'low/sub/', 'both/', 'both/low/', 'both/both/', 'f', 'g', 'h'];
const UPPER = ['up/', 'up/sub/', 'both/', 'both/up/', 'both/up/sub/', 'both/both/'];
/** Of the lower layer, to directories that only the upper one has. */
const MOVED = { f: 'up/sub/f', g: 'both/up/g', h: 'both/up/sub/h' };
const DIRECTORIES = [...new Set([...LOWER, ...UPPER])]
  .filter((name) => name.endsWith('/'))
  .map((name) => name.slice(0, -1));

guestTest('a directory lists itself and the one above with the numbers that stat tells', async (t, guest) => {
  await using client = await guest.client();
  const memory = `${await guest.directory('ext4', 'memory')}/f`;
  for (const [below, options] of [
    ['ext4', undefined],
    ['tmpfs', 'xino=on'],
  ] as const) {
    const at = await guest.directory('ext4', 'layers');
    const [lower, upper, work] = [await guest.directory(below, 'lower'), `${at}/upper`, `${at}/work`];
    for (const path of [upper, work]) await client.mkdir({ path });
    await fill(client, lower, LOWER);
    await fill(client, upper, UPPER);
    await using overlay = await guest.mountOverlay({ lower, upper, work, options }, client);
    for (const when of ['at first', 'with a copied file']) {
      for (const name of DIRECTORIES) {
        const numbers = await numbersIn(client, memory, overlay.file(name));
        const what = `lower layer on ${below}, ${when}: ${name}`;
        const numberOf = async (path: string) => {
          const [self] = await client.tree({ path: overlay.file(path) });
          return BigInt(self?.ino ?? 0);
        };
        t.is(numbers.get('.'), await numberOf(name), `${what}: itself`);
        t.is(numbers.get('..'), await numberOf(name.split('/').slice(0, -1).join('/')), `${what}: above`);
      }
      if (when === 'at first') {
        // Directories that have what was copied up list the numbers of all they have in another way.
        for (const [from, to] of Object.entries(MOVED)) {
          await client.rename({ from: overlay.file(from), to: overlay.file(to) });
        }
      }
    }
  }
});
