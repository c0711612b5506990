import { aclFor } from '../lib/access-control-list.ts';
import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

/** What ecryptfs makes of names and rights that change below it, and what it changes there. */

guestTest('a file that is removed below ecryptfs is gone on it', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  for (const name of ['removed', 'stays']) {
    await client.writeFile({ path: ecryptfs.file(name), data: name });
    t.is(await client.errno.stat({ path: ecryptfs.file(name) }), 'ok', `${name}: it is known`);
  }
  await client.unlink({ path: `${lower}/removed` });
  t.is(await client.errno.stat({ path: ecryptfs.file('removed') }), 'ENOENT');
  t.is(await client.errno.open({ path: ecryptfs.file('removed'), flags: 'O_RDONLY' }), 'ENOENT');
  t.is(text(await client.readFile({ path: ecryptfs.file('stays') })), 'stays');
  t.deepEqual(await client.readdir({ path: ecryptfs.path }), ['stays']);
});

guestTest('a name on ecryptfs is looked up again when it is not valid any more below', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);
  const path = ecryptfs.file('f');
  for (const name of ['f', 'other']) await client.writeFile({ path: ecryptfs.file(name), data: name });
  t.is(text(await client.readFile({ path })), 'f');
  for (const round of ['first', 'second']) {
    const after = await fuse.position();
    await client.stat({ path });
    // The server says that names are valid for no time at all.
    t.true((await fuse.opcodes({ opcode: 'LOOKUP', after })).length > 0, `a LOOKUP for the ${round} stat`);
  }
  // A copy, which the server has not met under another name.
  const data = await client.readFile({ path: fuse.backing('other') });
  await client.writeFile({ path: fuse.backing('new'), data });
  await client.rename({ from: fuse.backing('new'), to: fuse.backing('f') });
  t.is(text(await client.readFile({ path })), 'other', 'the file that has the name now');
});

guestTest(
  'what goes wrong when a name is looked up again below is told on ecryptfs, and the name stays',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);
    const path = ecryptfs.file('f');
    await client.writeFile({ path, data: 'contents' });
    const { ino } = await client.stat({ path });
    // Other errors mean that the name is not valid any more, and then it is looked up anew.
    await fuse.fail({ opcode: 'LOOKUP', path: '/f' }, 'ENOMEM', 1);
    t.is(await client.errno.stat({ path }), 'ENOMEM', 'a stat while the server has no memory');
    t.is((await client.stat({ path })).ino, ino, 'and when it has');
    t.is(text(await client.readFile({ path })), 'contents');
  },
);

/** For its owner and user 1500. */
const ACL = Buffer.from(aclFor([1500], 7));

guestTest('an access control list on ecryptfs is one of the lower file, and counts', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await client.chmod({ path: lower, mode: 0o755 });
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents', mode: 0o600 });
  const list = { path: ecryptfs.file('f'), name: 'system.posix_acl_access' };
  const below = { ...list, path: `${lower}/f` };
  const opened = async (uid: number): Promise<string> => {
    await using user = await guest.client();
    await user.chdir({ path: ecryptfs.path });
    await user.setCredentials({ uid, gid: uid });
    return await user.errno.open({ path: 'f', flags: 'O_RDWR' });
  };
  t.is(await opened(1500), 'EACCES', 'without a list');
  t.is(await client.errno.setxattr({ ...list, data: new Uint8Array(ACL) }), 'ok', 'a list is given');
  t.deepEqual(Buffer.from(await client.getxattr(below)), ACL, 'below');
  t.deepEqual(Buffer.from(await client.getxattr(list)), ACL, 'on ecryptfs');
  t.is(await opened(1500), 'ok', 'who the list names');
  t.is(await opened(4000), 'EACCES', 'who it does not name');
  await client.removexattr(list);
  t.is(await client.errno.getxattr(below), 'ENODATA', 'removed');
  t.is(await opened(1500), 'EACCES', 'removed');
});

guestTest('a directory on ecryptfs has both access control lists of the lower one', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.mkdir({ path: ecryptfs.file('d') });
  for (const [name, data] of [
    ['system.posix_acl_default', aclFor([1500, 1600], 5)],
    ['system.posix_acl_access', aclFor([1500], 7)],
  ] as const) {
    await client.setxattr({ path: ecryptfs.file('d'), name, data });
    for (const path of [`${lower}/d`, ecryptfs.file('d')]) {
      t.deepEqual(
        Buffer.from(await client.getxattr({ path, name })),
        Buffer.from(data),
        `${name} of ${path}`,
      );
    }
  }
  const remade = await client.getxattr({ path: ecryptfs.file('d'), name: 'system.posix_acl_default' });
  t.deepEqual(Buffer.from(remade), Buffer.from(aclFor([1500, 1600], 5)), 'the first one, with the other');
});

guestTest('ecryptfs over a read-only filesystem is read-only, and stays so', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('area', 'small');
  await client.mount({ source: 'none', target: lower, type: 'tmpfs' });
  const remount = { source: '', target: lower, type: '' };
  await client.mount({ ...remount, flags: 'MS_REMOUNT|MS_RDONLY' });
  {
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    t.is(await client.errno.mkdir({ path: ecryptfs.file('d') }), 'EROFS');
    await client.mount({ ...remount, flags: 'MS_REMOUNT' });
    t.is(await client.errno.mkdir({ path: `${lower}/below` }), 'ok', 'the lower one can be written now');
    t.is(await client.errno.mkdir({ path: ecryptfs.file('d') }), 'EROFS', 'and ecryptfs as little as before');
    t.is(await ecryptfs.unmount(), 'ok');
  }
  {
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    t.is(await client.errno.mkdir({ path: ecryptfs.file('d') }), 'ok', 'mounted anew');
  }
  await client.umount2({ target: lower });
});

/** linux/fs.h: asks for the number that tells a file from earlier ones with its inode number. Four bytes. */
const FS_IOC_GETVERSION = 0x8008_7601;

guestTest('the generation of a file on ecryptfs is that of the lower file', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  const generation = async (path: string) => {
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const { arg } = await client.ioctl({ fd, request: FS_IOC_GETVERSION, arg: new Uint8Array(8) });
    await client.close({ fd });
    return arg;
  };
  t.deepEqual(await generation(ecryptfs.file('f')), await generation(`${lower}/f`));
});

guestTest('flags of a file on ecryptfs are flags of the lower file', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const path = ecryptfs.file('f');
  await client.writeFile({ path, data: 'contents' });
  /** A: no access times; i: may not change. A filesystem has others besides. */
  const flags = async (of: string): Promise<string> =>
    ((await guest.run(['lsattr', of])).stdout.split(' ')[0] ?? '').replaceAll(/[^Ai]/g, '');
  for (const [change, seen, written] of [
    ['+A', 'A', 'ok'],
    ['+i', 'iA', 'EPERM'],
    ['-i', 'A', 'ok'],
    ['-A', '', 'ok'],
  ] as const) {
    await guest.run(['chattr', change, path]);
    t.is(await flags(`${lower}/f`), seen, `${change}, below`);
    t.is(await flags(path), seen, `${change}, on ecryptfs`);
    t.is(await client.errno.open({ path, flags: 'O_RDWR' }), written, `${change}: opened for writing`);
  }
});
