import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { upperOn } from '../lib/stack.ts';

/** Flags of files (ioctl_iflags(2)) on an overlay whose layers have none, or do not take them. */

/** include/uapi/linux/fs.h. */
const [FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR] = [0x8008_6601, 0x4008_6602, 0x801c_581f];
const [FS_APPEND_FL, FS_NODUMP_FL] = [0x20, 0x40];

/**
 * A server of files without flags: it answers the next time that some are set, which are three questions. Twice what
 * there is now, with a `fsxattr` after the `fuse_ioctl_out`, for the overlay and for itself; and then the new ones.
 */
async function withFlags(fuse: FuseMount, change: () => Promise<string>): Promise<string> {
  const match = { opcode: 'IOCTL' } as const;
  const takeBack = [
    await fuse.rule({ match, action: { do: 'body', body: new Uint8Array(16 + 28) } }),
    await fuse.rule({ match, nth: 3, times: 1, action: { do: 'body', body: new Uint8Array(16) } }),
  ];
  const errno = await change();
  for (const each of takeBack) await each();
  return errno;
}

/** A `long` of flags. */
function flagsOf(flags: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, flags, true);
  return bytes;
}

const set = (client: Client, fd: number, flags: number): Promise<string> =>
  client.errno.ioctl({ fd, request: FS_IOC_SETFLAGS, arg: flagsOf(flags) });

async function get(client: Client, fd: number): Promise<number> {
  const { arg } = await client.ioctl({ fd, request: FS_IOC_GETFLAGS, arg: flagsOf(0) });
  return arg === null ? 0 : new DataView(arg.buffer, arg.byteOffset).getUint32(0, true);
}

guestTest('a file of a layer that has no flags has none on the overlay: ENOTTY', async (t, guest) => {
  await using client = await guest.client();
  await using ramfs = await guest.mount({ source: 'none', type: 'ramfs' }, client);
  await fill(client, ramfs.path, ['f']);
  const layers = await upperOn(guest);
  await using overlay = await guest.mountOverlay({ lower: ramfs.path, ...layers }, client);
  const path = overlay.file('f');
  const fd = await client.open({ path, flags: 'O_RDONLY' });
  t.is(await client.errno.ioctl({ fd, request: FS_IOC_GETFLAGS, arg: flagsOf(0) }), 'ENOTTY');
  t.is(await client.errno.ioctl({ fd, request: FS_IOC_FSGETXATTR, arg: new Uint8Array(28) }), 'ENOTTY');
  t.deepEqual(await client.readdir({ path: layers.upper }), []);
  t.is(await client.errno.chmod({ path, mode: 0o600 }), 'ok', 'which is nothing that a copy-up fails for');
  t.is(await client.errno.ioctl({ fd, request: FS_IOC_GETFLAGS, arg: flagsOf(0) }), 'ok', 'copied up');
  await client.close({ fd });
});

guestTest('flags of a file that cannot be copied up are not those of the lower file', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse, lower } = stack;
  await fill(client, lower, ['f']);
  const [fd, below] = [
    await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' }),
    await client.open({ path: `${lower}/f`, flags: 'O_RDONLY' }),
  ];
  const before = await get(client, below);
  const permit = await fuse.fail({ opcode: ['CREATE', 'MKNOD', 'TMPFILE'] }, 'EDQUOT');
  t.is(await set(client, fd, FS_NODUMP_FL), 'EDQUOT');
  await permit();
  t.is(await get(client, below), before, 'the lower file');
  t.is(await set(client, below, before | FS_NODUMP_FL), 'ok', 'which may have it');
  for (const each of [fd, below]) await client.close({ fd: each });
});

guestTest('a file that its server does not open gets no flags', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const fd = await client.open({ path: overlay.file('old'), flags: 'O_RDONLY' });
  const change = () => withFlags(fuse, () => set(client, fd, FS_NODUMP_FL));
  const after = await fuse.position();
  t.is(await change(), 'ok');
  const opens = (await fuse.opcodes({ opcode: 'OPEN', after })).length;
  t.true(opens > 2, 'it is opened to get the old ones and to set the new');
  for (let nth = 1; nth <= opens; nth++) {
    const match = { opcode: 'OPEN', path: '/upper/old' } as const;
    const permit = await fuse.rule({ match, nth, times: 1, action: { do: 'error', errno: 'EDQUOT' } });
    t.is(await change(), 'EDQUOT', `open ${nth} of ${opens}`);
    await permit();
  }
  await client.close({ fd });
});

guestTest(
  'protection is taken from a file also where its server does not know how to remove an attribute',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse } = stack;
    const path = overlay.file('old');
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const change = (flags: number) => withFlags(fuse, () => set(client, fd, flags));
    const truncate = () => client.errno.truncate({ path, length: 1 });
    for (const [errno, gives, then] of [
      ['EDQUOT', 'EDQUOT', 'EPERM'],
      ['ENODATA', 'ok', 'ok'],
      ['EOPNOTSUPP', 'ok', 'ok'],
    ] as const) {
      t.is(await change(FS_APPEND_FL), 'ok', errno);
      t.is(await truncate(), 'EPERM', `${errno}: protected`);
      const permit = await fuse.fail('REMOVEXATTR', errno);
      t.is(await change(0), gives, errno);
      await permit();
      t.is(await truncate(), then, `${errno}: whether it still is`);
    }
    await client.close({ fd });
  },
);
