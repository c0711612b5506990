import type { BatchCall, Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Which attributes a call makes outdated, each asked for by itself (statx(2)). */

/** Longer than any test. Seconds. */
const LONG = 100_000;
/** `STATX_*` of linux/stat.h. */
const MASKS = {
  mode: 0x2,
  links: 0x4,
  owner: 0x8,
  atime: 0x20,
  mtime: 0x40,
  ctime: 0x80,
  size: 0x200,
} as const;
type Attribute = keyof typeof MASKS;
const ALL = Object.keys(MASKS) as readonly Attribute[];

interface Change {
  /** Calls that can be made again and again. */
  readonly calls: (fuse: FuseMount) => readonly BatchCall[];
  /** Whose attributes are looked at. */
  readonly of: string;
  readonly outdated: readonly Attribute[];
}

const CHANGES: Readonly<Record<string, Change>> = {
  'a link that is read': {
    calls: (fuse) => [{ call: 'readlink', args: { path: fuse.file('s') } }],
    of: 's',
    outdated: ['atime'],
  },
  'a directory that is listed': {
    calls: (fuse) => [{ call: 'readdir', args: { path: fuse.file('d') } }],
    of: 'd',
    outdated: ['atime'],
  },
  'a file with an extended attribute set': {
    calls: (fuse) => [
      { call: 'setxattr', args: { path: fuse.file('f'), name: 'trusted.n', data: new Uint8Array(1) } },
    ],
    of: 'f',
    outdated: ['ctime'],
  },
  'a file that is renamed': {
    calls: (fuse) => [
      { call: 'rename', args: { from: fuse.file('f'), to: fuse.file('g') } },
      { call: 'rename', args: { from: fuse.file('g'), to: fuse.file('f') } },
    ],
    of: 'f',
    outdated: ['ctime'],
  },
  'a directory that another is made in and removed from': {
    calls: (fuse) => [
      { call: 'mkdir', args: { path: fuse.file('d/e') } },
      { call: 'rmdir', args: { path: fuse.file('d/e') } },
    ],
    of: 'd',
    outdated: ALL,
  },
};

/** Those of the attributes that the server is asked for when somebody wants to know them after the calls. */
async function outdatedBy(
  fuse: FuseMount,
  client: Client,
  { calls, of }: Change,
): Promise<readonly Attribute[]> {
  const outdated: Attribute[] = [];
  const at = { path: fuse.file(of), flags: 'AT_SYMLINK_NOFOLLOW' };
  for (const attribute of ALL) {
    const after = await fuse.position();
    const known: BatchCall = { call: 'stat', args: { ...at, flags: `${at.flags}|AT_STATX_FORCE_SYNC` } };
    const look: BatchCall = { call: 'stat', args: { ...at, mask: MASKS[attribute] } };
    await client.batch({ calls: [known, ...calls(fuse), look], oneThread: true });
    const asked = await fuse.requests({ opcode: 'GETATTR', path: `/${of}`, after });
    if (asked.length > 1) outdated.push(attribute);
  }
  return outdated;
}

for (const [what, change] of Object.entries(CHANGES)) {
  guestTest(
    `of ${what} the server is asked for what is outdated, and for nothing else (A40)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({
        passthrough: 'off',
        entryValidS: LONG,
        attrValidS: LONG,
      });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      await client.symlink({ target: 'f', path: fuse.backing('s') });
      await client.mkdir({ path: fuse.backing('d') });
      t.deepEqual(await outdatedBy(fuse, client, { ...change, calls: () => [] }), [], 'before');
      t.deepEqual(await outdatedBy(fuse, client, change), change.outdated);
    },
  );
}

guestTest(
  'who seeks to the end asks for the size, and for nothing else that is outdated (A40)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const path = fuse.file('f');
    const fd = await client.open({ path, flags: 'O_RDWR' });
    const seek = async (): Promise<readonly [end: number, asked: readonly string[]]> => {
      const after = await fuse.position();
      const end = await client.lseek({ fd, offset: 0, whence: 'SEEK_END' });
      return [end, await fuse.opcodes({ opcode: 'GETATTR', after })];
    };
    await client.setxattr({ path, name: 'trusted.n', data: 'value' });
    t.deepEqual(await seek(), [8, []], 'the time of the change of attributes is outdated');
    await client.writeFile({ path: fuse.backing('f'), data: ' and more', flags: 'O_WRONLY|O_APPEND' });
    t.is(await fuse.notify({ inode: '/f', offset: -1, length: 0 }), 'ok');
    t.deepEqual(await seek(), [17, ['GETATTR']], 'all is outdated');
    await client.close({ fd });
  },
);

/** Calls that go as far as the file does; each gives how far that is. */
const TO_THE_END: Readonly<Record<string, (client: Client, fd: number) => Promise<number>>> = {
  'a read to the end': async (client, fd) => (await client.pread({ fd, count: 100, offset: 0 })).length,
  SEEK_END: (client, fd) => client.lseek({ fd, offset: 0, whence: 'SEEK_END' }),
  'SEEK_HOLE that the server does not know': (client, fd) =>
    client.lseek({ fd, offset: 0, whence: 'SEEK_HOLE' }),
};

guestTest(
  'after a write who goes to the end asks for the size, and does not where only another time is outdated (A40)',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      entryValidS: LONG,
      attrValidS: LONG,
      init,
    });
    await using client = await guest.client();
    await fuse.fail('LSEEK', 'ENOSYS');
    for (const [what, reach] of Object.entries(TO_THE_END)) {
      const path = fuse.file(what);
      await client.writeFile({ path: fuse.backing(what), data: 'contents' });
      const fd = await client.open({ path, flags: 'O_RDWR' });
      const look = async (): Promise<readonly [end: number, asked: readonly string[]]> => {
        const after = await fuse.position();
        const end = await reach(client, fd);
        return [end, await fuse.opcodes({ opcode: 'GETATTR', after })];
      };
      await client.setxattr({ path, name: 'trusted.n', data: 'value' });
      t.deepEqual(await look(), [8, []], `${what}: the time of the change of attributes is outdated`);
      await client.pwrite({ fd, data: 'CON', offset: 0 });
      await client.writeFile({ path: fuse.backing(what), data: ' and more', flags: 'O_WRONLY|O_APPEND' });
      t.deepEqual(await look(), [17, ['GETATTR']], `${what}: the size is outdated by a write`);
      await client.close({ fd });
    }
  },
);
