import type { Client } from '../lib/client.ts';
import { aclFor } from '../lib/access-control-list.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';

/** An overlay whose upper filesystem has become read-only: nothing on it changes, all else goes on. */

/** include/uapi/linux/fs.h. */
const FS_IOC_SETFLAGS = 0x4008_6602;
const LONG_AGO_NS = 1_500_000_000_000_000_000;

/** Of files and directories of both layers: `low`, `low-dir/`, and `up`, `up-dir/`. */
const CHANGES: Readonly<Record<string, (client: Client, at: string) => Promise<string>>> = {
  'a new file': (client, at) => client.errno.creat({ path: `${at}/new` }),
  'a new directory': (client, at) => client.errno.mkdir({ path: `${at}/up-dir/new` }),
  'a new device': (client, at) =>
    client.errno.mknod({ path: `${at}/new`, mode: 0o020_600, major: 1, minor: 3 }),
  'a new symbolic link': (client, at) => client.errno.symlink({ path: `${at}/new`, target: 'low' }),
  'a new link': (client, at) => client.errno.link({ from: `${at}/up`, to: `${at}/new` }),
  'an upper file removed': (client, at) => client.errno.unlink({ path: `${at}/up` }),
  'a lower file removed': (client, at) => client.errno.unlink({ path: `${at}/low` }),
  'an upper directory removed': (client, at) => client.errno.rmdir({ path: `${at}/up-dir` }),
  'an upper file renamed': (client, at) => client.errno.rename({ from: `${at}/up`, to: `${at}/new` }),
  'a lower file renamed': (client, at) => client.errno.rename({ from: `${at}/low`, to: `${at}/new` }),
  'an upper file replaced': (client, at) => client.errno.rename({ from: `${at}/other`, to: `${at}/up` }),
  'the mode of an upper file': (client, at) => client.errno.chmod({ path: `${at}/up`, mode: 0o600 }),
  'the mode of a lower file': (client, at) => client.errno.chmod({ path: `${at}/low`, mode: 0o600 }),
  'access for writing to an upper file': (client, at) =>
    client.errno.access({ path: `${at}/up`, mode: 'W_OK' }),
  'an upper file cut': (client, at) => client.errno.truncate({ path: `${at}/up`, length: 1 }),
  'times of an upper file': (client, at) =>
    client.errno.utimens({ path: `${at}/up`, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS }),
  'a lower file opened for writing': (client, at) =>
    client.errno.open({ path: `${at}/low`, flags: 'O_WRONLY' }),
  'an attribute of an upper file': (client, at) =>
    client.errno.setxattr({ path: `${at}/up`, name: 'trusted.word', data: 'x' }),
  'flags of an upper file': async (client, at) => {
    const fd = await client.open({ path: `${at}/up`, flags: 'O_RDONLY' });
    const errno = await client.errno.ioctl({ fd, request: FS_IOC_SETFLAGS, arg: new Uint8Array(8) });
    await client.close({ fd });
    return errno;
  },
  'a list of an upper file': (client, at) =>
    client.errno.setxattr({ path: `${at}/up`, name: 'system.posix_acl_access', data: aclFor([1500], 4) }),
};

guestTest(
  'on an overlay whose upper filesystem has become read-only nothing changes: EROFS',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await using disk = await guest.mount({ source: 'upper', type: 'tmpfs' }, client);
    const [upper, work] = [disk.file('upper'), disk.file('work')];
    for (const path of [upper, work]) await client.mkdir({ path });
    await fill(client, lower, ['low', 'low-dir/']);
    await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
    await fill(client, overlay.path, ['up', 'other', 'up-dir/']);
    const remount = (flags: string) =>
      client.errno.mount({ source: 'upper', target: disk.path, type: 'tmpfs', flags });
    const tree = async () =>
      (await client.tree({ path: overlay.path })).map(({ path, content, stat }) => ({
        path,
        content,
        mode: stat.mode,
      }));
    const before = await tree();
    t.is(await remount('MS_REMOUNT|MS_RDONLY'), 'ok');
    for (const [what, change] of Object.entries(CHANGES))
      t.is(await change(client, overlay.path), 'EROFS', what);
    t.deepEqual(await tree(), before, 'what there is');
    t.is(await remount('MS_REMOUNT'), 'ok');
    t.is(await client.errno.creat({ path: overlay.file('new') }), 'ok');
    for (const name of ['up', 'low'])
      t.is(await client.errno.chmod({ path: overlay.file(name), mode: 0o600 }), 'ok');
  },
);

guestTest(
  'directories are merged, and nothing is noted of that, while the upper filesystem is read-only',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await fill(client, lower, ['d/', 'd/low', 'e/', 'e/low']);
    const origin = 'trusted.overlay.origin';
    for (const [type, has] of [
      ['tmpfs', 'ok'],
      ['ramfs', 'EOPNOTSUPP'],
    ] as const) {
      await using disk = await guest.mount({ source: 'upper', type }, client);
      const [upper, work] = [disk.file('upper'), disk.file('work')];
      await fill(client, disk.path, ['upper/', 'work/', 'upper/d/', 'upper/d/up', 'upper/e/', 'upper/e/up']);
      await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
      const remount = (flags: string) =>
        client.errno.mount({ source: 'upper', target: disk.path, type, flags });
      t.is(await remount('MS_REMOUNT|MS_RDONLY'), 'ok', type);
      const name = await client.errno.lstat({ path: overlay.file('d') });
      // With attributes the name is refused until where it is from has been noted.
      if (type === 'ramfs') {
        t.is(name, 'ok', 'without attributes there is nothing to note');
        t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['low', 'up'], type);
      } else {
        const mark = { path: `${upper}/d`, name: origin };
        t.is(await client.errno.getxattr(mark), 'ENODATA', 'read-only');
      }
      t.is(await remount('MS_REMOUNT'), 'ok', type);
      for (const dir of ['d', 'e']) {
        t.deepEqual(await client.readdir({ path: overlay.file(dir) }), ['low', 'up'], `${type}: ${dir}`);
        t.is(await client.errno.getxattr({ path: `${upper}/${dir}`, name: origin }), has, `${type}: ${dir}`);
      }
    }
  },
);
