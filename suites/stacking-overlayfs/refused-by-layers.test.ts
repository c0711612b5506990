import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { lowerOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** What an overlay makes of errors of its layers where nothing is copied up and no name changes. */

/** FS_IOC_GETFLAGS and FS_IOC_SETFLAGS, include/uapi/linux/fs.h. */
const [FS_IOC_GETFLAGS, FS_IOC_SETFLAGS] = [0x8008_6601, 0x4008_6602];
const FS_APPEND_FL = 0x20;

guestTest(
  'a name that the server of a layer cannot look up is an error, and no name that there is not',
  async (t, guest) => {
    await using client = await guest.client();
    {
      await using stack = await upperOnFuse(guest, client);
      const { overlay, fuse, lower } = stack;
      await fill(client, lower, ['f']);
      const permit = await fuse.fail({ opcode: 'LOOKUP', path: '/upper/f' }, 'EDQUOT');
      t.is(await client.errno.stat({ path: overlay.file('f') }), 'EDQUOT', 'the upper layer');
      t.is(await client.errno.creat({ path: overlay.file('f') }), 'EDQUOT', 'the upper layer, made');
      await permit();
      t.is(await client.errno.stat({ path: overlay.file('f') }), 'ok');
    }
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse, upper } = stack;
    const permit = await fuse.fail('LOOKUP', 'EDQUOT');
    t.is(await client.errno.stat({ path: overlay.file('f') }), 'EDQUOT', 'the lower layer');
    t.is(await client.errno.creat({ path: overlay.file('f') }), 'EDQUOT', 'the lower layer, made');
    await permit();
    t.is(await client.errno.stat({ path: overlay.file('f') }), 'ok');
    t.deepEqual(await client.readdir({ path: upper }), []);
  },
);

guestTest(
  'what is removed leaves a whiteout where the lower layer does not tell whether it has one',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse, upper } = stack;
    const kindOf = async (name: string) => {
      const found = (await client.readdir({ path: upper })).includes(name);
      return found ? (await client.lstat({ path: `${upper}/${name}` })).mode & 0o170_000 : 'none';
    };
    for (const [name, errno, left] of [
      ['none', 'ENOENT', 'none'],
      ['long', 'ENAMETOOLONG', 'none'],
      ['hidden', 'EACCES', 0o020_000],
      ['broken', 'EIO', 0o020_000],
    ] as const) {
      await client.writeFile({ path: overlay.file(name), data: 'above' });
      const permit = await fuse.fail({ opcode: 'LOOKUP', path: `/${name}` }, errno);
      t.is(await client.errno.unlink({ path: overlay.file(name) }), 'ok', errno);
      await permit();
      t.is(await kindOf(name), left, errno);
    }
  },
);

guestTest('attributes that a layer does not tell or take are errors on the overlay', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse } = stack;
  const path = overlay.file('old');
  const mode = (await client.stat({ path })).mode & 0o7777;
  const fd = await client.open({ path, flags: 'O_RDONLY' });
  // `fuse_ioctl_out` and a `fsxattr` without flags: what they were.
  await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body: new Uint8Array(16 + 28) } });
  const flags = (request: number) => client.errno.ioctl({ fd, request, arg: flagsOf(FS_APPEND_FL) });
  for (const [what, opcode, change] of [
    ['stat', 'GETATTR', () => client.errno.fstat({ fd })],
    ['chmod', 'SETATTR', () => client.errno.chmod({ path, mode: 0o600 })],
    ['truncate', 'SETATTR', () => client.errno.truncate({ path, length: 1 })],
    ['flags told', 'OPEN', () => flags(FS_IOC_GETFLAGS)],
    ['flags set', 'SETXATTR', () => flags(FS_IOC_SETFLAGS)],
  ] as const) {
    const permit = await fuse.fail({ opcode, path: '/upper/old' }, 'EDQUOT');
    t.is(await change(), 'EDQUOT', what);
    await permit();
  }
  const after = await client.stat({ path });
  t.deepEqual([after.mode & 0o7777, after.size], [mode, 10], 'nothing has changed');
  await client.close({ fd });
});

/** A `long` of flags. */
function flagsOf(flags: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, flags, true);
  return bytes;
}

guestTest(
  'a number that the lower server does not tell makes stat of a copied file an error',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    const path = overlay.file('f');
    await client.chmod({ path, mode: 0o600 });
    const permit = await fuse.fail('GETATTR', 'EDQUOT');
    t.is(await client.errno.stat({ path }), 'EDQUOT');
    await permit();
    t.is(await client.errno.stat({ path }), 'ok');
  },
);

guestTest('whiteouts are one inode, as long as the upper layer can link it', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse, lower } = stack;
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  await fill(client, lower, names);
  const whiteout = async (name: string): Promise<number> => {
    t.is(await client.errno.unlink({ path: overlay.file(name) }), 'ok', name);
    return (await client.lstat({ path: fuse.backing(`upper/${name}`) })).ino;
  };
  const permit = await fuse.fail('MKNOD', 'EDQUOT');
  t.is(await client.errno.unlink({ path: overlay.file('a') }), 'EDQUOT', 'none can be made');
  t.is(await client.errno.stat({ path: overlay.file('a') }), 'ok', 'what was to be removed is there');
  await permit();
  const [a, b] = [await whiteout('a'), await whiteout('b')];
  t.is(a, b, 'two whiteouts');
  await fuse.fail('LINK', 'EMLINK', 1);
  t.is(await whiteout('c'), a, 'the last one of as many links as there may be');
  const [d, e] = [await whiteout('d'), await whiteout('e')];
  t.not(d, a, 'the next one');
  t.is(e, d, 'and that after it');
  await fuse.fail('LINK', 'EPERM', 1);
  t.is(await whiteout('f'), d, 'where no links can be made: the one that there is');
  const after = await fuse.position();
  t.not(await whiteout('g'), d, 'and then one of its own');
  t.deepEqual(await fuse.opcodes({ opcode: ['LINK', 'MKNOD'], after }), ['MKNOD'], 'no link is tried again');
});

guestTest(
  'a directory made in a merged one is there even without the mark that would keep it from being merged',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, 'redirect_dir=on');
    const { overlay, fuse } = stack;
    const mark = (name: string) =>
      client.errno.getxattr({ path: fuse.backing(`upper/${name}`), name: 'trusted.overlay.opaque' });
    const permit = await fuse.fail('SETXATTR', 'EDQUOT');
    t.is(await client.errno.mkdir({ path: overlay.file('made') }), 'ok');
    await permit();
    t.is(await client.errno.mkdir({ path: overlay.file('marked') }), 'ok');
    t.deepEqual([await mark('made'), await mark('marked')], ['ENODATA', 'ok']);
    t.is(await client.errno.creat({ path: overlay.file('made/f') }), 'ok');
  },
);
