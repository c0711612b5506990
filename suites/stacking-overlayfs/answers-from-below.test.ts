import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { lowerOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { HEEDS_MODES } from '../lib/launchers.ts';

/** What an overlay makes of what a plain FUSE server that has one of its layers answers. */

guestTest('a file of a layer without extended attributes is a file like any other', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse } = stack;
  await fuse.fail('GETXATTR', 'EOPNOTSUPP');
  t.is(await client.errno.stat({ path: overlay.file('f') }), 'ok', 'looked up');
  t.is(text(await client.readFile({ path: overlay.file('f') })), 'from below', 'read');
  const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'FROM', offset: 0 });
  await client.close({ fd });
  t.is(text(await client.readFile({ path: overlay.file('f') })), 'FROM below', 'copied up');
});

/** include/uapi/linux/fuse.h. */
const FOPEN_DIRECT_IO = 1;
const O_NONBLOCK = 0o4000;

guestTest(
  'reads on an overlay tell the server of the layer whether F_SETFL has set O_NONBLOCK',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    await fuse.answerOpen('OPEN', { openFlags: FOPEN_DIRECT_IO });
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
    for (const [arg, told] of [
      [0, false],
      ['O_NONBLOCK', true],
      [0, false],
    ] as const) {
      await client.fcntl({ fd, cmd: 'F_SETFL', arg });
      const after = await fuse.position();
      t.is(text(await client.pread({ fd, count: 4, offset: 0 })), 'from');
      const [read] = await fuse.requests({ opcode: 'READ', after });
      const flag = (Number(read?.args['flags']) & O_NONBLOCK) !== 0;
      t.is(flag, told, `O_NONBLOCK after F_SETFL with ${arg}`);
    }
    await client.close({ fd });
  },
);

/** More than a server is asked for at a time if that is a page, with some bytes besides each name. */
const NAMES = Array.from({ length: 40 }, (_each, nth) => `${String(nth).padStart(2, '0')}${'n'.repeat(200)}`);

guestTest('a merged directory shows all that a server lists in several answers', async (t, guest) => {
  await using client = await guest.client();
  {
    // Later kernels ask for more than a page where they may.
    const init = { ...WITHOUT_PASSTHROUGH, maxPages: 1, addFlags: ['MAX_PAGES'] } as const;
    await using stack = await lowerOnFuse(guest, client, { init });
    const { overlay, fuse } = stack;
    await fill(client, fuse.root, ['d/', ...NAMES.map((name) => `d/${name}`)]);
    await client.writeFile({ path: overlay.file('d/above'), data: '' });
    const after = await fuse.position();
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), [...NAMES, 'above'], 'the lower layer');
    const asked = await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS'], after });
    t.true(asked.length > 2, `${asked.length} requests`);
  }
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse, lower } = stack;
  await fill(client, lower, ['d/', 'd/below']);
  await fill(client, fuse.backing('upper'), ['d/', ...NAMES.map((name) => `d/${name}`)]);
  t.deepEqual(await client.readdir({ path: overlay.file('d') }), [...NAMES, 'below'], 'the upper layer');
});

guestTest(
  'what the server of the upper layer refuses to make is not there, and may be made later',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse } = stack;
    const make: Readonly<Record<string, () => Promise<string>>> = {
      file: () => client.errno.mknod({ path: overlay.file('file'), mode: 0o100_644 }),
      directory: () => client.errno.mkdir({ path: overlay.file('directory') }),
      fifo: () => client.errno.mknod({ path: overlay.file('fifo'), mode: 0o010_644 }),
      symlink: () => client.errno.symlink({ path: overlay.file('symlink'), target: 'nowhere' }),
    };
    const permit = await fuse.fail({ opcode: ['CREATE', 'MKNOD', 'MKDIR', 'SYMLINK'] }, 'EDQUOT');
    for (const [what, attempt] of Object.entries(make)) t.is(await attempt(), 'EDQUOT', what);
    t.deepEqual(await client.readdir({ path: overlay.path }), ['old'], 'nothing was made');
    await permit();
    for (const [what, attempt] of Object.entries(make)) t.is(await attempt(), 'ok', `${what}, later`);
    // The kernel would complain of inodes that nobody has put.
    t.is(await overlay.unmount(), 'ok');
  },
);

const OWNER = 1234;

guestTest('nothing is copied up that who has mounted the overlay may not read', async (t, guest) => {
  await using client = await guest.client();
  await using mounter = await guest.client({ launcher: HEEDS_MODES });
  // On FUSE without default_permissions: who mounts must be able to use the work directory, which has mode 0.
  await using stack = await upperOnFuse(guest, mounter);
  const { overlay, fuse, lower } = stack;
  const modes = { private: 0o600, public: 0o644 } as const;
  for (const [name, mode] of Object.entries(modes)) {
    await client.writeFile({ path: `${lower}/${name}`, data: 'from below' });
    await client.chown({ path: `${lower}/${name}`, uid: OWNER, gid: OWNER });
    await client.chmod({ path: `${lower}/${name}`, mode });
  }
  t.is(await mounter.errno.readFile({ path: `${lower}/private` }), 'EACCES', 'read in the layer');
  const change = (name: string) => client.errno.chmod({ path: overlay.file(name), mode: 0o604 });
  t.is(await change('private'), 'EACCES', 'whoever changes its mode');
  t.is(await change('public'), 'ok', 'one that it may read');
  t.deepEqual(await client.readdir({ path: fuse.backing('upper') }), ['old', 'public'], 'copied up');
});

/** In the lower layer: type, mode, whose last digit is what who mounts may do, and what comes of its owner on the overlay. */
const OWNED: Readonly<Record<string, readonly [type: number, mode: number, reads: string, writes: string]>> =
  {
    'a file that the mounter may read': [0o100_000, 0o604, 'ok', 'ok'],
    'a file that the mounter may write': [0o100_000, 0o602, 'EACCES', 'EACCES'],
    'a directory that the mounter may read': [0o040_000, 0o704, 'ok', 'ok'],
    'a directory that the mounter may write': [0o040_000, 0o703, 'EACCES', 'EACCES'],
    // Which is written where it is.
    'a fifo that the mounter may read': [0o010_000, 0o604, 'ok', 'EACCES'],
    'a fifo that the mounter may write': [0o010_000, 0o602, 'EACCES', 'ok'],
  };

guestTest(
  'who has mounted an overlay must be able to read what others read or write on it, and to write a fifo that they write',
  async (t, guest) => {
    await using client = await guest.client();
    await using mounter = await guest.client({ launcher: HEEDS_MODES });
    await using stack = await upperOnFuse(guest, mounter);
    const { overlay, lower } = stack;
    await client.chmod({ path: overlay.path, mode: 0o755 });
    await using owner = await guest.client();
    await owner.chdir({ path: overlay.path });
    await owner.setCredentials({ uid: OWNER, gid: OWNER });
    for (const [name, [type, mode, reads, writes]] of Object.entries(OWNED)) {
      const path = `${lower}/${name}`;
      if (type === 0o040_000) await client.mkdir({ path });
      else await client.mknod({ path, mode: type | mode });
      await client.chown({ path, uid: OWNER, gid: OWNER });
      await client.chmod({ path, mode });
      t.is(await owner.errno.access({ path: name, mode: 'R_OK' }), reads, `${name}: read`);
      t.is(await owner.errno.access({ path: name, mode: 'W_OK' }), writes, `${name}: written`);
    }
  },
);
