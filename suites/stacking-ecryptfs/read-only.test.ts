import { aclFor } from '../lib/access-control-list.ts';
import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions, type StackedMount } from '../lib/stacked-mount.ts';

/** An encrypted view of files, and files of a read-only filesystem, which nobody changes. */

/** @returns `ok` or the errno. */
function remount(client: Client, { path }: StackedMount, flags = ''): Promise<string> {
  return client.errno.mount({ source: '', target: path, type: '', flags: `MS_REMOUNT${flags}` });
}

/** Opens the file for writing, and writes if that is allowed. @returns what open says: `ok` or the errno. */
async function writeTo(client: Client, path: string): Promise<string> {
  const fd = { ref: { of: 0 } };
  const [opened] = await client.batch({
    calls: [
      { call: 'open', args: { path, flags: 'O_RDWR' } },
      { call: 'pwrite', args: { fd, data: pattern(100, 2), offset: 10_000 } },
      { call: 'close', args: { fd } },
    ],
  });
  return opened !== undefined && 'errno' in opened ? opened.errno : 'ok';
}

guestTest(
  'an encrypted view of files stays read-only when it is remounted, and the files as they are',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const data = pattern(20_000);
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      await client.writeFile({ path: ecryptfs.file('f'), data });
      t.is(await writeTo(client, ecryptfs.file('f')), 'ok', 'where it is decrypted');
      data.set(pattern(100, 2), 10_000);
    }
    const opened: string[] = [];
    {
      const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_encrypted_view'] });
      await using view = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
      opened.push(await writeTo(client, view.file('f')));
      // An error of this, or that it changes nothing: both would do.
      await remount(client, view);
      opened.push(await writeTo(client, view.file('f')));
    }
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const seen = await client.readFile({ path: ecryptfs.file('f') });
    t.deepEqual(
      { opened, size: seen.length, difference: firstDifference(seen, data) },
      { opened: ['EROFS', 'EROFS'], size: data.length, difference: undefined },
      'opened for writing as it was mounted, and after the remount; and what became of the file',
    );
  },
);

/** A day in 2001. */
const LONG_AGO_NS = 1e18;
/** linux/fs.h; the flag is that access times are not kept. */
const [FS_IOC_SETFLAGS, FS_NOATIME_FL] = [0x4008_6602, 0x80];
const S_IFIFO = 0o010_000;

/** By what they are. */
type Changes = Readonly<Record<string, (client: Client, path: string) => Promise<string>>>;

/** What changes a file that nobody has opened for writing. */
const OF_A_FILE: Changes = {
  chmod: (client, path) => client.errno.chmod({ path, mode: 0o640 }),
  chown: (client, path) => client.errno.chown({ path, uid: 1001, gid: 1002 }),
  utimens: (client, path) => client.errno.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS }),
  'an attribute': (client, path) => client.errno.setxattr({ path, name: 'trusted.word', data: 'value' }),
  'a list of who may': (client, path) =>
    client.errno.setxattr({ path, name: 'system.posix_acl_access', data: aclFor([1500], 6) }),
  'a flag': async (client, path) => {
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const errno = await client.errno.ioctl({ fd, request: FS_IOC_SETFLAGS, arg: u32(FS_NOATIME_FL) });
    await client.close({ fd });
    return errno;
  },
  truncate: (client, path) => client.errno.truncate({ path, length: 0 }),
  unlink: (client, path) => client.errno.unlink({ path }),
};

/** What changes a directory that has two others, `old` and `empty`. */
const OF_A_DIRECTORY: Changes = {
  mkdir: (client, path) => client.errno.mkdir({ path: `${path}/new` }),
  symlink: (client, path) => client.errno.symlink({ target: 'nowhere', path: `${path}/link` }),
  mknod: (client, path) => client.errno.mknod({ path: `${path}/pipe`, mode: S_IFIFO | 0o600 }),
  rename: (client, path) => client.errno.rename({ from: `${path}/old`, to: `${path}/renamed` }),
  rmdir: (client, path) => client.errno.rmdir({ path: `${path}/empty` }),
  chmod: (client, path) => client.errno.chmod({ path, mode: 0o700 }),
  setxattr: (client, path) => client.errno.setxattr({ path, name: 'trusted.word', data: 'value' }),
};

/** Makes all of them. @returns for each `ok` or the errno. */
async function change(client: Client, path: string, changes: Changes): Promise<Record<string, string>> {
  const said: Record<string, string> = {};
  for (const [what, apply] of Object.entries(changes)) said[what] = await apply(client, path);
  return said;
}

function all(changes: Changes, errno: string): Record<string, string> {
  return Object.fromEntries(Object.keys(changes).map((what) => [what, errno]));
}

for (const [which, mountedAnew] of [
  ['was mounted before', false],
  ['is remounted to be writable', true],
] as const) {
  guestTest(
    `a file of a read-only filesystem is not changed through an ecryptfs that ${which}`,
    async (t, guest) => {
      await using client = await guest.client();
      await using lower = await guest.mount({ source: 'none', type: 'tmpfs' }, client);
      await using stack = new AsyncDisposableStack();
      let ecryptfs = stack.use(await guest.mountEcryptfs({ lower: lower.path }, client));
      for (const name of ['f', 'control']) {
        await client.writeFile({ path: ecryptfs.file(name), data: pattern(5000), mode: 0o600 });
      }
      t.deepEqual(
        await change(client, ecryptfs.file('control'), OF_A_FILE),
        all(OF_A_FILE, 'ok'),
        'while it can be written',
      );
      if (mountedAnew) t.is(await ecryptfs.unmount(), 'ok');
      t.is(await remount(client, lower, '|MS_RDONLY'), 'ok');
      if (mountedAnew) {
        ecryptfs = stack.use(await guest.mountEcryptfs({ lower: lower.path }, client));
        t.deepEqual(
          await change(client, ecryptfs.file('f'), OF_A_FILE),
          all(OF_A_FILE, 'EROFS'),
          'as it was mounted',
        );
        // An error of this, or that it changes nothing: both would do.
        await remount(client, ecryptfs);
      }
      const before = await client.stat({ path: lower.file('f') });
      t.deepEqual(await change(client, lower.file('f'), OF_A_FILE), all(OF_A_FILE, 'EROFS'), 'below');
      t.deepEqual(
        await change(client, ecryptfs.file('f'), OF_A_FILE),
        all(OF_A_FILE, 'EROFS'),
        'through ecryptfs',
      );
      t.deepEqual(await client.stat({ path: lower.file('f') }), before, 'and the file is as it was');
    },
  );
}

guestTest(
  'a directory is not changed through ecryptfs where the lower one is mounted read-only',
  async (t, guest) => {
    await using client = await guest.client();
    const directory = await guest.directory('ext4', 'bound');
    for (const name of ['d', 'control']) {
      for (const path of [name, `${name}/old`, `${name}/empty`]) {
        await client.mkdir({ path: `${directory}/${path}` });
      }
    }
    // The filesystem itself can be written. There are no files: ecryptfs could not open them to look them up.
    await using lower = await guest.mount({ source: directory, type: 'none', flags: 'MS_BIND' }, client);
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower: lower.path }, client);
      const said = await change(client, ecryptfs.file('control'), OF_A_DIRECTORY);
      t.deepEqual(said, all(OF_A_DIRECTORY, 'ok'), 'while it can be written');
    }
    t.is(await remount(client, lower, '|MS_BIND|MS_RDONLY'), 'ok');
    await using ecryptfs = await guest.mountEcryptfs({ lower: lower.path }, client);
    // Times are left out: to list a directory is to change one of them.
    const names = async () =>
      (await client.tree({ path: `${directory}/d` })).map(({ path, stat: { mode }, xattrs }) => ({
        path,
        mode,
        xattrs,
      }));
    const before = await names();
    for (const [where, path] of [
      ['below', lower.file('d')],
      ['through ecryptfs', ecryptfs.file('d')],
    ] as const) {
      t.deepEqual(await change(client, path, OF_A_DIRECTORY), all(OF_A_DIRECTORY, 'EROFS'), where);
    }
    t.deepEqual(await names(), before, 'and the directory is as it was');
  },
);
