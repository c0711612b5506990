import type { Client } from '../lib/client.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** Attributes that are set in cases that are not those of every day, and those that the server does not set. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const BELIEVED = { passthrough: 'off', entryValidS: LONG, attrValidS: LONG } as const;
/** In the year 2242, with no more digits than a double has. Seconds. */
const [ACCESS_S, CHANGE_S] = [2 ** 33, 2 ** 33 + 2048];
const FAR = { atimeNs: ACCESS_S * 1e9, mtimeNs: CHANGE_S * 1e9 } as const;

guestTest('a time that takes more than 32 bits is set, and written back, as it is', async (t, guest) => {
  await using client = await guest.client();
  for (const [what, writebackCache] of [
    ['the server keeps the times', false],
    ['the kernel keeps the times', true],
  ] as const) {
    await using fuse = await (writebackCache
      ? mountWritebackCache(guest)
      : guest.mountFuse({ passthrough: 'off' }));
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const path = fuse.file('f');
    const fd = await client.open({ path, flags: 'O_RDWR' });
    await client.utimens({ path, ...FAR });
    const [set] = await fuse.requests('SETATTR');
    t.like(set?.args, { atime: ACCESS_S, mtime: CHANGE_S }, `${what}: what the server is told to set`);
    if (writebackCache) {
      const after = await fuse.position();
      // Changes the time of the last change of attributes, with which the other one is told.
      await client.setxattr({ path, name: 'trusted.n', data: 'value' });
      const [told] = await fuse.requests({ opcode: 'SETATTR', after });
      t.is(told?.args['mtime'], CHANGE_S, `${what}: what is written back`);
    }
    await client.close({ fd });
  }
});

/** include/uapi/linux/fuse.h */
const [FATTR_UID, FATTR_GID, FATTR_ATIME, FATTR_MTIME] = [1 << 1, 1 << 2, 1 << 4, 1 << 5];

guestTest('owner and times of a symbolic link are the server’s to set', async (t, guest) => {
  await using fuse = await guest.mountFuse(BELIEVED);
  await using client = await guest.client();
  await client.symlink({ target: 'nowhere', path: fuse.backing('s') });
  // By a descriptor of the link itself nothing is followed any further.
  const fd = await client.open({ path: fuse.file('s'), flags: 'O_PATH|O_NOFOLLOW' });
  const path = `/proc/self/fd/${fd}`;
  await client.chown({ path, uid: 11, gid: 22 });
  await client.utimens({ path, atimeNs: 1e9, mtimeNs: 2e9 });
  const sent = await fuse.requests({ opcode: 'SETATTR', path: '/s' });
  t.is(sent.length, 2, 'the server is told of both');
  t.like(sent[0]?.args, { valid: FATTR_UID | FATTR_GID, uid: 11, gid: 22 }, 'the owner');
  t.like(sent[1]?.args, { valid: FATTR_ATIME | FATTR_MTIME, atime: 1, mtime: 2 }, 'the times');
  const attributes = { uid: 11, gid: 22, mtimeNs: 2e9 };
  for (const at of [fuse.file('s'), fuse.backing('s')])
    t.like(await client.lstat({ path: at }), attributes, at);
  await client.close({ fd });
});

const REFUSED: Partial<Readonly<Record<OpcodeName, (client: Client, path: string) => Promise<string>>>> = {
  SETXATTR: (client, path) => client.errno.setxattr({ path, name: 'trusted.new', data: 'value' }),
  REMOVEXATTR: (client, path) => client.errno.removexattr({ path, name: 'trusted.there' }),
};

guestTest(
  'an extended attribute that the server does not set or remove changes no time of the file (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, writebackCache] of [
      ['the server keeps the times', false],
      ['the kernel keeps the times', true],
    ] as const) {
      await using fuse = await (writebackCache
        ? mountWritebackCache(guest, BELIEVED)
        : guest.mountFuse(BELIEVED));
      const path = fuse.file('f');
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      await client.setxattr({ path: fuse.backing('f'), name: 'trusted.there', data: 'value' });
      const known = async (): Promise<number> => (await client.stat({ path })).ctimeNs;
      const before = await known();
      for (const [opcode, call] of Object.entries(REFUSED)) {
        const after = await fuse.position();
        await fuse.fail(opcode as OpcodeName, 'EDQUOT', 1);
        t.is(await call(client, path), 'EDQUOT', `${opcode}, ${what}`);
        t.is(await known(), before, `${opcode}, ${what}: the ctime`);
        const asked = await fuse.opcodes({ opcode: ['GETATTR', 'SETATTR'], after });
        t.deepEqual(asked, [], `${opcode}, ${what}: the server is neither asked for a time nor told one`);
      }
    }
  },
);
