import type { Assertions } from 'ava';
import { aclFor } from '../lib/access-control-list.ts';
import { pattern } from '../lib/bytes.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { lowerOnFuse } from '../lib/overlay-on-fuse.ts';

/** An overlay acts on its layers in the name of who mounted it: for that time, and no longer. */

const STRANGER = 1500;
/** linux/fs.h and linux/fiemap.h */
const [FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FIEMAP] = [0x8008_6601, 0x4008_6602, 0xc020_660b];
const ACL = 'system.posix_acl_access';

/** Calls of one thread, and after each of them what it may not do. */
class Steps {
  readonly #closed: BatchCall;
  readonly #calls: BatchCall[] = [];
  readonly #notes: { readonly what: string; readonly gives: string; readonly at: number }[] = [];

  /** `closed`: a file that only root may open. */
  constructor(closed: string) {
    this.#closed = { call: 'open', args: { path: closed, flags: 'O_RDONLY' } };
  }

  /** @returns what the call gives, for later ones. */
  add(what: string, call: BatchCall['call'], args: BatchCall['args'], gives = 'ok'): object {
    const at = this.#calls.length;
    this.#calls.push({ call, args }, this.#closed);
    this.#notes.push({ what, gives, at });
    return { ref: { of: at } };
  }

  async check(t: Assertions, caller: Client): Promise<void> {
    const results = await caller.batch({ calls: this.#calls, oneThread: true });
    for (const { what, gives, at } of this.#notes) {
      const [result, after] = [results[at], results[at + 1]];
      t.is(result === undefined || 'value' in result ? 'ok' : result.errno, gives, what);
      t.deepEqual(after, { errno: 'EACCES' }, `after ${what}: what is closed to the caller`);
    }
  }
}

/** Root's, and closed to everybody else. */
async function closedFile(guest: TestGuest, client: Client): Promise<string> {
  const path = `${await guest.directory('ext4', 'closed')}/closed`;
  await client.writeFile({ path, data: 'secret', mode: 0o600 });
  await client.chmod({ path, mode: 0o600 });
  return path;
}

async function inside(guest: TestGuest, path: string): Promise<Client> {
  const caller = await guest.client();
  await caller.chdir({ path });
  return caller;
}

/** All of it belongs to the caller. */
const BELOW = [
  ...['read', 'written', 'mode', 'list', 'attribute', 'flags', 'linked', 'renamed', 'removed', 'cut'],
  ...['times', 'd/', 'd/below', 'empty/', 'full/', 'full/f'],
];

guestTest('after every kind of call on an overlay the caller is who it was', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  await fill(client, lower, BELOW);
  await client.writeFile({ path: `${lower}/one`, data: 'of two names' });
  await client.link({ from: `${lower}/one`, to: `${lower}/other` });
  await client.symlink({ path: `${lower}/link`, target: 'read' });
  for (const name of [...BELOW, 'one', 'link']) {
    await guest.run(['chown', '-h', `${STRANGER}:${STRANGER}`, `${lower}/${name}`]);
  }
  await fill(client, upper, ['d/', 'd/above', 'mine']);
  for (const name of ['d', 'mine']) {
    await client.chown({ path: `${upper}/${name}`, uid: STRANGER, gid: STRANGER });
  }
  // Metadata whose data are nowhere.
  await client.writeFile({ path: `${upper}/lost`, data: '' });
  await client.setxattr({ path: `${upper}/lost`, name: 'trusted.overlay.metacopy', data: '' });
  await client.chmod({ path: upper, mode: 0o777 });
  await using overlay = await over(guest, client, layers, 'index=on,metacopy=on,redirect_dir=on');
  const elsewhere = await layersOf(guest, 2);
  await client.writeFile({ path: `${elsewhere[0] ?? ''}/f`, data: 'of another overlay' });
  await using another = await over(guest, client, elsewhere);
  await using served = await lowerOnFuse(guest, client);

  await using caller = await inside(guest, overlay.path);
  const foreign = await caller.open({ path: another.file('f'), flags: 'O_RDONLY' });
  const onFuse = await caller.open({ path: served.overlay.file('f'), flags: 'O_RDONLY' });
  const own = await caller.open({ path: overlay.file('flags'), flags: 'O_RDONLY' });
  const { arg: flags } = await caller.ioctl({ fd: own, request: FS_IOC_GETFLAGS, arg: new Uint8Array(8) });
  await caller.setCredentials({ uid: STRANGER, gid: STRANGER });

  const steps = new Steps(await closedFile(guest, client));
  steps.add('stat', 'stat', { path: 'read' });
  steps.add('stat of what is not there', 'stat', { path: 'nothing' }, 'ENOENT');
  steps.add('stat of metadata without data', 'stat', { path: 'lost' }, 'EIO');
  steps.add('access', 'access', { path: 'read', mode: 'R_OK' });
  steps.add('reading a link', 'readlink', { path: 'link' });
  steps.add('a list', 'readdir', { path: 'd' });
  steps.add('a list of one layer', 'readdir', { path: 'full' });

  const fd = steps.add('an open for reading', 'open', { path: 'read', flags: 'O_RDONLY' });
  steps.add('a read', 'pread', { fd, count: 10, offset: 0 });
  steps.add('seeking', 'lseek', { fd, offset: 3, whence: 'SEEK_SET' });
  steps.add('seeking to data behind the end', 'lseek', { fd, offset: 1000, whence: 'SEEK_DATA' }, 'ENXIO');
  steps.add('advice', 'posix_fadvise', { fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
  // `struct fiemap`: one byte at the beginning, and no room for an answer.
  steps.add('FIEMAP', 'ioctl', { fd, request: FS_IOC_FIEMAP, arg: new Uint8Array(32).fill(1, 8, 9) });
  steps.add('flags told', 'ioctl', { fd, request: FS_IOC_GETFLAGS, arg: new Uint8Array(8) });
  steps.add('flags set', 'ioctl', { fd: own, request: FS_IOC_SETFLAGS, arg: flags });

  const written = steps.add('an open for writing', 'open', { path: 'written', flags: 'O_RDWR' });
  steps.add('a write', 'pwrite', { fd: written, data: pattern(10), offset: 0 });
  steps.add('allocating', 'fallocate', { fd: written, offset: 0, length: 8192 });
  const copy = { fdOut: written, offIn: 0, offOut: 0, length: 5 };
  steps.add('a copy', 'copy_file_range', { ...copy, fdIn: fd });
  steps.add('a copy from another overlay', 'copy_file_range', { ...copy, fdIn: foreign });
  steps.add('fsync', 'fsync', { fd: written });
  steps.add('a close', 'close', { fd: written });
  steps.add('a close that a layer is told of', 'close', { fd: onFuse });

  steps.add('an attribute', 'getxattr', { path: 'mine', name: 'user.none' }, 'ENODATA');
  steps.add('names of attributes', 'listxattr', { path: 'read' });
  steps.add('an attribute set', 'setxattr', { path: 'attribute', name: 'user.a', data: pattern(1) });
  steps.add('an attribute removed', 'removexattr', { path: 'attribute', name: 'user.a' });
  steps.add(
    'an attribute removed that is not there',
    'removexattr',
    { path: 'read', name: 'user.a' },
    'ENODATA',
  );
  steps.add('an access control list', 'getxattr', { path: 'read', name: ACL }, 'ENODATA');
  steps.add('a list set', 'setxattr', { path: 'list', name: ACL, data: aclFor([STRANGER], 4) });
  steps.add('a list removed', 'removexattr', { path: 'list', name: ACL });
  steps.add('a list removed that is not there', 'removexattr', { path: 'read', name: ACL }, 'ENODATA');

  steps.add('chmod', 'chmod', { path: 'mode', mode: 0o600 });
  steps.add('times', 'utimens', { path: 'times', atimeNs: 'now', mtimeNs: 'now' });
  steps.add('a truncation', 'truncate', { path: 'cut', length: 1 });
  steps.add('a file made', 'mknod', { path: 'made', mode: 0o100_600 });
  steps.add('a link to it', 'link', { from: 'made', to: 'as-well' });
  steps.add('what was made replaced', 'rename', { from: 'as-well', to: 'mine' });
  steps.add('what was made removed', 'unlink', { path: 'made' });
  steps.add('a directory made', 'mkdir', { path: 'directory' });
  steps.add('a symbolic link made', 'symlink', { path: 'symlink', target: 'read' });
  steps.add('a link to metadata without data', 'link', { from: 'mode', to: 'also' });
  steps.add('a link to a lower file', 'link', { from: 'linked', to: 'd/linked' });
  steps.add('a file renamed', 'rename', { from: 'renamed', to: 'd/renamed' });
  steps.add('a directory renamed', 'rename', { from: 'full', to: 'moved' });
  steps.add('a file removed', 'unlink', { path: 'removed' });
  steps.add('one of two names removed', 'unlink', { path: 'one' });
  steps.add('the other removed', 'unlink', { path: 'other' });
  steps.add('a file made where one was removed', 'mknod', { path: 'removed', mode: 0o100_600 });
  steps.add('a directory removed that is not empty', 'rmdir', { path: 'd' }, 'ENOTEMPTY');
  steps.add('a directory removed', 'rmdir', { path: 'empty' });
  if (guest.expected.hasIoModes) {
    steps.add('a file without a name', 'open', { path: '.', flags: 'O_TMPFILE|O_RDWR', mode: 0o600 });
  }
  await steps.check(t, caller);
});

/** `struct ovl_metacopy`, fs/overlayfs/overlayfs.h: version, length, flags, SHA-256, and the digest. */
const DIGEST = Uint8Array.from([0, 4 + 32, 0, 1, ...new Uint8Array(32)]);
const NO_DIGEST = new Uint8Array();

guestTest('after an open of data in a layer of data alone the caller is who it was', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'layers of data alone');
  await using client = await guest.client();
  const [data = '', lower = '', upper = ''] = await layersOf(guest, 3);
  await client.writeFile({ path: `${data}/contents`, data: 'of the data layer' });
  for (const [name, redirect, mark] of [
    ['f', '/contents', NO_DIGEST],
    ['digest', '/contents', DIGEST],
    ['lost', '/nothing', NO_DIGEST],
  ] as const) {
    const path = `${lower}/${name}`;
    await client.writeFile({ path, data: '', mode: 0o644 });
    await client.truncate({ path, length: 'of the data layer'.length });
    await client.setxattr({ path, name: 'trusted.overlay.metacopy', data: mark });
    await client.setxattr({ path, name: 'trusted.overlay.redirect', data: redirect });
  }
  await client.chmod({ path: upper, mode: 0o755 });
  const layers = { lower: `${lower}::${data}`, upper, work: await guest.directory('ext4', 'work') };
  await using overlay = await guest.mountOverlay({ ...layers, options: 'metacopy=on,verity=on' }, client);
  await using caller = await inside(guest, overlay.path);
  await caller.setCredentials({ uid: STRANGER, gid: STRANGER });
  const steps = new Steps(await closedFile(guest, client));
  const fd = steps.add('an open', 'open', { path: 'f', flags: 'O_RDONLY' });
  steps.add('a read', 'pread', { fd, count: 10, offset: 0 });
  steps.add('an open of data that are not there', 'open', { path: 'lost', flags: 'O_RDONLY' }, 'ENOENT');
  steps.add('an open of data without their digest', 'open', { path: 'digest', flags: 'O_RDONLY' }, 'EIO');
  await steps.check(t, caller);
});
