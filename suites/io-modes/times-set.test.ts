import type { Client } from '../lib/client.ts';
import { FATTR_FH } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** Which times SETATTR sets beside what a call asks for, where the kernel keeps them (FUSE_WRITEBACK_CACHE). */

/** include/uapi/linux/fuse.h */
const [FATTR_MODE, FATTR_UID, FATTR_GID, FATTR_SIZE] = [1 << 0, 1 << 1, 1 << 2, 1 << 3];
const [FATTR_ATIME, FATTR_MTIME, FATTR_CTIME] = [1 << 4, 1 << 5, 1 << 10];
const [FATTR_ATIME_NOW, FATTR_LOCKOWNER] = [1 << 7, 1 << 9];
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** Long ago, and no whole second. */
const [ACCESS_NS, CHANGE_NS] = [1_000_000_001_000_000_256, 1_500_000_001_000_000_512];

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
      (await fuse.requests({ opcode: 'SETATTR', after })).map(({ args }) => args['valid']),
      [FATTR_MODE],
      'the times of a directory are the server’s',
    );
  },
);

/** Calls that change the time of the last change of attributes, and not that of data. */
const CHANGING: Readonly<Record<string, (client: Client, fuse: FuseMount) => Promise<unknown>>> = {
  link: (client, fuse) => client.link({ from: fuse.file('f'), to: fuse.file('g') }),
  rename: (client, fuse) => client.rename({ from: fuse.file('g'), to: fuse.file('h') }),
  setxattr: (client, fuse) => client.setxattr({ path: fuse.file('f'), name: 'trusted.n', data: 'value' }),
  unlink: (client, fuse) => client.unlink({ path: fuse.file('h') }),
};

guestTest(
  'where the kernel keeps the times of a file, a server is told both of them after a change of attributes',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.utimens({ path: fuse.backing('f'), atimeNs: ACCESS_NS, mtimeNs: CHANGE_NS });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    for (const [what, change] of Object.entries(CHANGING)) {
      const after = await fuse.position();
      await change(client, fuse);
      const [request] = await fuse.requests({ opcode: 'SETATTR', after });
      const { ctimeNs } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      const [told, said] = ['mtime', 'ctime'].map((time) => {
        return Number(request?.args[time]) * 1e9 + Number(request?.args[`${time}nsec`]);
      });
      t.deepEqual([told, said], [CHANGE_NS, ctimeNs], `${what}: mtime and ctime`);
      t.true(ctimeNs > CHANGE_NS, `${what}: which are two`);
    }
    await client.close({ fd });
  },
);

/** `STATX_*` of linux/stat.h: what the kernel keeps of a file with the writeback cache, and what it does not. */
const STATX = { uid: 0x8, mtime: 0x40, ctime: 0x80, size: 0x200 } as const;

guestTest(
  'where the kernel keeps size and times of a file the server is not asked for them, but for the rest',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest, { entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const path = fuse.file('f');
    const asked = async (attribute: keyof typeof STATX): Promise<string[]> => {
      const after = await fuse.position();
      await client.stat({ path, mask: STATX[attribute] });
      return fuse.opcodes({ opcode: 'GETATTR', after });
    };
    await client.stat({ path });
    await client.setxattr({ path, name: 'trusted.n', data: 'value' });
    t.deepEqual(await asked('ctime'), [], 'ctime after setxattr');
    t.is(await fuse.notify({ inode: '/f', offset: -1, length: 0 }), 'ok');
    for (const attribute of ['mtime', 'ctime', 'size'] as const) {
      t.deepEqual(await asked(attribute), [], `${attribute} after the server has taken all back`);
    }
    t.deepEqual(await asked('uid'), ['GETATTR'], 'the owner');
  },
);

const FATTR_MTIME_NOW = 1 << 8;

guestTest(
  'where the server keeps the times, which of two times is that of now is told of each by itself',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const path = fuse.file('f');
    const both = FATTR_ATIME | FATTR_MTIME;
    for (const [atimeNs, mtimeNs, valid] of [
      ['now', CHANGE_NS, both | FATTR_ATIME_NOW],
      [ACCESS_NS, 'now', both | FATTR_MTIME_NOW],
      [ACCESS_NS, CHANGE_NS, both],
      ['now', 'now', both | FATTR_ATIME_NOW | FATTR_MTIME_NOW],
      ['now', null, FATTR_ATIME | FATTR_ATIME_NOW],
      [null, 'now', FATTR_MTIME | FATTR_MTIME_NOW],
    ] as const) {
      const after = await fuse.position();
      await client.utimens({ path, atimeNs, mtimeNs });
      const [request] = await fuse.requests({ opcode: 'SETATTR', after });
      t.is(request?.args['valid'], valid, `atime ${atimeNs}, mtime ${mtimeNs}`);
    }
  },
);
