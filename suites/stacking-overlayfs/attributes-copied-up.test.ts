import { text } from '../lib/bytes.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ioctlAnswer } from '../lib/ioctl-answer.ts';
import { fill } from '../lib/layers.ts';
import { lowerOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { upperOn } from '../lib/stack.ts';

/** Extended attributes, inode flags and owners of what is copied up, where a layer lacks them or errs about them. */

type Rule = Parameters<FuseMount['rule']>[0];

const fails = (errno: string): Rule['action'] => ({ do: 'error', errno });

/** FS_IOC_GETFLAGS, include/uapi/linux/fs.h: what chattr(1) calls A and i. */
const FS_SYNC_FL = 0x8;
const FS_NOATIME_FL = 0x80;
const FS_IMMUTABLE_FL = 0x10;

const flagsAnswer = (flags: number): Uint8Array => ioctlAnswer(0, u32(flags));

guestTest(
  'attributes that the upper layer cannot have are left out, those about security are not',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await client.mkdir({ path: `${lower}/first` });
    await client.chmod({ path: overlay.file('first'), mode: 0o700 });
    for (const [name, errno, gives] of [
      ['trusted.word', 'EOPNOTSUPP', 'ok'],
      ['trusted.word', 'ENOSPC', 'ENOSPC'],
      ['security.word', 'EOPNOTSUPP', 'EOPNOTSUPP'],
      ['security.word', 'ENOSPC', 'ENOSPC'],
    ] as const) {
      const what = `${name} with ${errno}`;
      const file = `${name}-${errno}`;
      await client.writeFile({ path: `${lower}/${file}`, data: 'from below' });
      await client.setxattr({ path: `${lower}/${file}`, name, data: 'value' });
      await client.stat({ path: overlay.file(file) });
      const permit = await fuse.fail('SETXATTR', errno, 1);
      const change = () => client.errno.chmod({ path: overlay.file(file), mode: 0o604 });
      t.is(await change(), gives, what);
      await permit();
      const copied = await client.readdir({ path: fuse.backing('upper') });
      t.is(copied.includes(file), gives === 'ok', `${what}: copied up`);
      const left = gives === 'ok' ? 'ENODATA' : 'ok';
      t.is(await client.errno.getxattr({ path: overlay.file(file), name }), left, `${what}: the attribute`);
      t.is(await change(), 'ok', `${what}: once more`);
      t.is(text(await client.readFile({ path: overlay.file(file) })), 'from below', what);
    }
  },
);

guestTest(
  'attributes without a value are copied up as well, and so are those that are listed behind them (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    // Two of them, and two others: a filesystem may list them in any order.
    const attributes = { 'trusted.a': '', 'trusted.b': 'value', 'trusted.c': '', 'trusted.d': 'other' };
    await fill(client, lower, ['f', 'd/']);
    for (const path of [`${lower}/f`, `${lower}/d`]) {
      for (const [name, data] of Object.entries(attributes)) await client.setxattr({ path, name, data });
    }
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    for (const name of ['f', 'd']) {
      await client.chmod({ path: overlay.file(name), mode: 0o700 });
      for (const path of [`${layers.upper}/${name}`, overlay.file(name)]) {
        const names = await client.listxattr({ path });
        const found: Record<string, string> = {};
        for (const each of names.filter((one) => one in attributes).toSorted())
          found[each] = text(await client.getxattr({ path, name: each }));
        t.deepEqual(found, attributes, path);
      }
    }
  },
);

guestTest('inode flags that the lower server tells of are copied up', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse, upper } = stack;
  const flagsOf = async (path: string): Promise<string> => {
    const { stdout } = await guest.run(['lsattr', '-d', path]);
    const flags = stdout.split(' ')[0] ?? '';
    return ['A', 'S', 'a', 'i'].filter((flag) => flags.includes(flag)).join('');
  };
  for (const [name, flags, onUpper, onOverlay, kept] of [
    ['plain', 0, '', '', 'ENODATA'],
    ['quiet', FS_NOATIME_FL, 'A', 'A', 'ENODATA'],
    ['synced', FS_SYNC_FL, 'S', 'S', 'ENODATA'],
    ['fixed', FS_IMMUTABLE_FL, '', 'i', 'ok'],
    ['both', FS_NOATIME_FL | FS_IMMUTABLE_FL, 'A', 'Ai', 'ok'],
  ] as const) {
    await client.writeFile({ path: fuse.backing(name), data: 'from below' });
    const permit = await fuse.rule({
      match: { opcode: 'IOCTL' },
      action: { do: 'body', body: flagsAnswer(flags) },
    });
    t.is(await client.errno.chmod({ path: overlay.file(name), mode: 0o604 }), 'ok', name);
    await permit();
    t.is(await flagsOf(`${upper}/${name}`), onUpper, `${name}: of the upper file`);
    const mark = { path: `${upper}/${name}`, name: 'trusted.overlay.protattr' };
    t.is(await client.errno.getxattr(mark), kept, `${name}: what the overlay keeps`);
    t.is(await flagsOf(overlay.file(name)), onOverlay, `${name}: of the file of the overlay`);
    if (kept === 'ok') await guest.run(['chattr', '-i', overlay.file(name)]);
  }
});

guestTest(
  'inode flags that the upper layer cannot have are left out, other errors are not',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await client.mkdir({ path: `${lower}/first` });
    await client.chmod({ path: overlay.file('first'), mode: 0o700 });
    for (const [flag, opcode, errno, gives] of [
      ['A', 'IOCTL', 'ENOTTY', 'ok'],
      ['A', 'IOCTL', 'EINVAL', 'ok'],
      ['A', 'IOCTL', 'EDQUOT', 'EDQUOT'],
      ['a', 'SETXATTR', 'EPERM', 'ok'],
      ['a', 'SETXATTR', 'EDQUOT', 'EDQUOT'],
    ] as const) {
      const what = `${flag}: ${opcode} gives ${errno}`;
      const name = `${flag}-${errno}`;
      await client.writeFile({ path: `${lower}/${name}`, data: 'from below' });
      await guest.run(['chattr', `+${flag}`, `${lower}/${name}`]);
      await client.stat({ path: overlay.file(name) });
      const permit = await fuse.fail(opcode, errno, 1);
      const append = () =>
        client.errno.writeFile({ path: overlay.file(name), data: '!', flags: 'O_WRONLY|O_APPEND' });
      t.is(await append(), gives, what);
      await permit();
      const copied = await client.readdir({ path: fuse.backing('upper') });
      t.is(copied.includes(name), gives === 'ok', `${what}: copied up`);
      if (gives !== 'ok') t.is(await append(), 'ok', `${what}: once more`);
      t.is(text(await client.readFile({ path: overlay.file(name) })), 'from below!', what);
      await guest.run(['chattr', `-${flag}`, `${lower}/${name}`]);
    }
  },
);

/** `fuse_getxattr_out`: how much room an attribute takes. */
const roomAnswer = (bytes: number): Rule['action'] => ({
  do: 'body',
  body: new Uint8Array(Buffer.concat([u32(bytes), u32(0)])),
});

/** Of `trusted.a`, one byte, then of `trusted.b`, ten: the room of one, the one, what fits of the other, its room. */
const GETXATTR: readonly (readonly [what: string, nth: number, action: Rule['action'], gives: string])[] = [
  ['there is none any more', 1, fails('ENODATA'), 'ENODATA'],
  ['it may not be read', 2, fails('EPERM'), 'EPERM'],
  ['it has become longer', 2, fails('ERANGE'), 'EIO'],
  ['it may not be read, where another was', 3, fails('EPERM'), 'EPERM'],
  ['it has become shorter than the room there is', 4, roomAnswer(1), 'EIO'],
  ['it cannot be asked for how long it is', 4, fails('EDQUOT'), 'EDQUOT'],
  ['it has become longer, where another was', 5, fails('ERANGE'), 'EIO'],
];

guestTest('a file whose attributes change while they are copied up is not copied up', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'end to asking for an attribute again');
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse, upper } = stack;
  const names = new Uint8Array(Buffer.from('trusted.a\0trusted.b\0'));
  for (const [at, [what, nth, action, gives]] of GETXATTR.entries()) {
    const name = `f${at}`;
    const path = fuse.backing(name);
    await client.writeFile({ path, data: 'from below' });
    await client.setxattr({ path, name: 'trusted.a', data: '1' });
    await client.setxattr({ path, name: 'trusted.b', data: '1234567890' });
    await client.stat({ path: overlay.file(name) });
    const undo = [
      await fuse.rule({ match: { opcode: 'LISTXATTR' }, nth: 2, action: { do: 'body', body: names } }),
      await fuse.rule({ match: { opcode: 'LISTXATTR' }, times: 1, action: roomAnswer(names.length) }),
      await fuse.rule({ match: { opcode: 'GETXATTR' }, nth, times: 1, action }),
    ];
    const change = () => client.errno.chmod({ path: overlay.file(name), mode: 0o604 });
    t.is(await change(), gives, what);
    for (const each of undo) await each();
    t.false((await client.readdir({ path: upper })).includes(name), `${what}: copied up`);
    t.is(await change(), 'ok', `${what}: once more`);
    for (const [attribute, value] of [
      ['trusted.a', '1'],
      ['trusted.b', '1234567890'],
    ] as const) {
      t.is(text(await client.getxattr({ path: `${upper}/${name}`, name: attribute })), value, what);
    }
  }
});

guestTest(
  'a file of an owner or group whom the mounter has no number for is not copied up',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    for (const [name, uid, gid] of [
      ['own', 0, 0],
      ['owner', 1234, 0],
      ['group', 0, 1234],
    ] as const) {
      await client.writeFile({ path: `${lower}/${name}`, data: 'from below' });
      await client.chown({ path: `${lower}/${name}`, uid, gid });
      await client.chmod({ path: `${lower}/${name}`, mode: 0o666 });
    }
    await using mounter = await guest.client({ launcher: ['unshare', '-Urm'] });
    await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'userxattr' }, mounter);
    const write = (name: string) => mounter.errno.open({ path: overlay.file(name), flags: 'O_WRONLY' });
    t.is(await write('owner'), 'EOVERFLOW');
    t.is(await write('group'), 'EOVERFLOW');
    t.deepEqual(await client.readdir({ path: layers.upper }), []);
    t.is(await write('own'), 'ok');
    t.deepEqual(await client.readdir({ path: layers.upper }), ['own']);
  },
);
