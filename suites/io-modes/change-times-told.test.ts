import type { Client } from '../lib/client.ts';
import { FATTR_FH } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** The time of a change that the kernel keeps (FUSE_WRITEBACK_CACHE), told to the server by a SETATTR of its own. */

/** include/uapi/linux/fuse.h */
const [FATTR_MODE, FATTR_UID, FATTR_GID, FATTR_SIZE] = [1 << 0, 1 << 1, 1 << 2, 1 << 3];
const [FATTR_ATIME, FATTR_MTIME, FATTR_CTIME] = [1 << 4, 1 << 5, 1 << 10];
const [FATTR_ATIME_NOW, FATTR_LOCKOWNER] = [1 << 7, 1 << 9];
/** Long ago, and no whole second. */
const [ACCESS_NS, CHANGE_NS] = [1_000_000_001_000_000_256, 1_500_000_001_000_000_512];

/** Changes to what is known of a file but not to the file, which change its ctime. */
const CHANGES: Readonly<Record<string, (client: Client, fuse: FuseMount) => Promise<unknown>>> = {
  link: (client, fuse) => client.link({ from: fuse.file('f'), to: fuse.file('link') }),
  rename: (client, fuse) => client.rename({ from: fuse.file('f'), to: fuse.file('g') }),
  'unlink of another name': (client, fuse) => client.unlink({ path: fuse.file('other') }),
  setxattr: (client, fuse) => client.setxattr({ path: fuse.file('f'), name: 'user.x', data: 'v' }),
};

/** `valid` and `fh` of each SETATTR. */
async function told(fuse: FuseMount, after: number): Promise<[number, number][]> {
  const requests = await fuse.requests({ opcode: 'SETATTR', after });
  return requests.map(({ args }) => [Number(args['valid']), Number(args['fh'])]);
}

for (const minor of [23, 22]) {
  const times = minor === 23 ? FATTR_MTIME | FATTR_CTIME : FATTR_MTIME;
  guestTest(
    `what a server of version 7.${minor} is told of the time of a change names the open file, where there is one`,
    async (t, guest) => {
      for (const [what, change] of Object.entries(CHANGES)) {
        for (const flags of ['', 'O_RDONLY', 'O_WRONLY']) {
          await using fuse = await mountWritebackCache(guest, { init: { minor } });
          await using client = await guest.client();
          await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
          await client.link({ from: fuse.backing('f'), to: fuse.backing('other') });
          for (const name of ['f', 'other']) await client.stat({ path: fuse.file(name) });
          const fd = flags === '' ? -1 : await client.open({ path: fuse.file('f'), flags });
          const after = await fuse.position();
          await change(client, fuse);
          const [first] = await told(fuse, after);
          const open = flags === 'O_WRONLY';
          const opened = open ? await fuse.waitFor('OPEN') : undefined;
          const wanted = [times | (open ? FATTR_FH : 0), opened?.reply?.open?.fh ?? 0];
          t.deepEqual(first, wanted, `${what}, open ${flags || 'nowhere'}`);
          if (fd >= 0) await client.close({ fd });
        }
      }
    },
  );
}

interface Setting {
  readonly set: (client: Client, at: { path: string; fd: number }) => Promise<unknown>;
  /** What the request says to be set. */
  readonly valid: number;
}

/** Calls that set attributes of a file of eight bytes, in this order. */
const SETTINGS: Readonly<Record<string, Setting>> = {
  utimens: {
    set: (client, { path }) => client.utimens({ path, atimeNs: ACCESS_NS, mtimeNs: CHANGE_NS }),
    valid: FATTR_ATIME | FATTR_MTIME | FATTR_CTIME,
  },
  chmod: {
    set: (client, { path }) => client.chmod({ path, mode: 0o600 }),
    valid: FATTR_MODE | FATTR_CTIME,
  },
  chown: {
    set: (client, { path }) => client.chown({ path, uid: 1, gid: 1 }),
    valid: FATTR_UID | FATTR_GID | FATTR_CTIME,
  },
  'utimens of the access time': {
    set: (client, { path }) => client.utimens({ path, atimeNs: ACCESS_NS, mtimeNs: null }),
    valid: FATTR_ATIME | FATTR_CTIME,
  },
  'truncate to the size that it has': {
    set: (client, { path }) => client.truncate({ path, length: 8 }),
    valid: FATTR_SIZE | FATTR_LOCKOWNER,
  },
  truncate: {
    set: (client, { path }) => client.truncate({ path, length: 5 }),
    valid: FATTR_SIZE | FATTR_LOCKOWNER | FATTR_MTIME | FATTR_CTIME,
  },
  ftruncate: {
    set: (client, { fd }) => client.ftruncate({ fd, length: 3 }),
    valid: FATTR_SIZE | FATTR_LOCKOWNER | FATTR_FH | FATTR_MTIME | FATTR_CTIME,
  },
  'utimens with the time of now': {
    set: (client, { path }) => client.utimens({ path, atimeNs: 'now', mtimeNs: 'now' }),
    valid: FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_CTIME,
  },
};

guestTest(
  'where the kernel keeps the times of a file, a server that has to set an attribute is told the times that this changes',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.utimens({ path: fuse.backing('f'), atimeNs: ACCESS_NS, mtimeNs: ACCESS_NS });
    const path = fuse.file('f');
    const fd = await client.open({ path, flags: 'O_RDWR' });
    const known = async (): Promise<Record<'mtime' | 'ctime', number>> => {
      const { mtimeNs, ctimeNs } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      return { mtime: mtimeNs, ctime: ctimeNs };
    };
    for (const [what, { set, valid }] of Object.entries(SETTINGS)) {
      const before = await known();
      const after = await fuse.position();
      await set(client, { path, fd });
      const requests = await fuse.requests({ opcode: 'SETATTR', after });
      t.deepEqual(
        requests.map(({ args }) => args['valid']),
        [valid],
        `${what}: what is to be set`,
      );
      const args = requests[0]?.args ?? {};
      const now = await known();
      for (const [time, bit] of [
        ['mtime', FATTR_MTIME],
        ['ctime', FATTR_CTIME],
      ] as const) {
        const said = Number(args[time]) * 1e9 + Number(args[`${time}nsec`]);
        t.is(
          now[time],
          (valid & bit) === 0 ? before[time] : said,
          `${what}: the ${time} that the kernel keeps`,
        );
      }
    }
    await client.close({ fd });
    await client.mkdir({ path: fuse.backing('d') });
    const after = await fuse.position();
    await client.chmod({ path: fuse.file('d'), mode: 0o700 });
    t.deepEqual(
      (await told(fuse, after)).map(([valid]) => valid),
      [FATTR_MODE],
      'the times of a directory are the server’s',
    );
  },
);
