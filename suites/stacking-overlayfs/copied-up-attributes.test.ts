import { aclFor } from '../lib/access-control-list.ts';
import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** What becomes of a file when writing through FUSE makes the overlay below copy it up. */

interface Below extends AsyncDisposable {
  readonly fuse: FuseMount;
  readonly overlay: StackedMount;
  readonly lower: string;
  readonly upper: string;
}

const PAGE = 4096;
/** Whole seconds, so that every filesystem can store them. */
const LONG_AGO_NS = 1_500_000_000_000_000_000;

/** FUSE over an overlay whose lower layer has `d/f`: a page of data, a hole, odd owner, mode and times. */
async function fileBelow(guest: TestGuest, client: Client): Promise<Below> {
  await using undo = new AsyncDisposableStack();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  const path = `${lower}/d/f`;
  await client.mkdir({ path: `${lower}/d` });
  await client.writeFile({ path, data: 'x'.repeat(PAGE) });
  await client.truncate({ path, length: 5 * PAGE });
  await client.setxattr({ path, name: 'user.word', data: 'value' });
  await client.chown({ path, uid: 1234, gid: 2345 });
  await client.chmod({ path, mode: 0o640 });
  for (const each of [path, `${lower}/d`]) {
    await client.utimens({ path: each, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
  }
  const overlay = undo.use(await guest.mountOverlay({ lower, ...layers }, client));
  const fuse = undo.use(await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } }));
  const all = undo.move();
  return { fuse, overlay, lower, upper: layers.upper, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

guestTest(
  'a file that an open for writing copies up keeps data, size, owner, mode, times and attributes (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await fileBelow(guest, client);
    const before = await client.stat({ path: stack.overlay.file('d/f') });

    const fd = await client.open({ path: stack.fuse.file('d/f'), flags: 'O_RDWR' });
    await client.close({ fd });
    const path = `${stack.upper}/d/f`;
    t.deepEqual(await client.readdir({ path: `${stack.upper}/d` }), ['f'], 'it is in the upper layer');
    const upper = await client.stat({ path });
    t.is(upper.size, 5 * PAGE, 'the size, with the hole at the end');
    const expected = `${'x'.repeat(PAGE)}${'\0'.repeat(4 * PAGE)}`;
    t.true(text(await client.readFile({ path })) === expected, 'the data');
    t.is((upper.mode & 0o7777).toString(8), '640', 'the mode');
    t.is(upper.uid, 1234, 'the owner');
    t.is(upper.gid, 2345, 'the group');
    t.is(upper.mtimeNs, LONG_AGO_NS, 'the time of the last change');
    t.is(text(await client.getxattr({ path, name: 'user.word' })), 'value', 'extended attributes');
    const names = await client.listxattr({ path: stack.overlay.file('d/f') });
    t.deepEqual(names, ['user.word'], 'the overlay keeps its own attributes to itself');

    const after = await client.stat({ path: stack.overlay.file('d/f') });
    t.is(after.ino, before.ino, 'the inode number on the overlay stays');
    t.is(
      (await client.stat({ path: `${stack.upper}/d` })).mtimeNs,
      LONG_AGO_NS,
      'the time of the directory that it is copied into stays',
    );
    t.is((await client.stat({ path: `${stack.lower}/d/f` })).size, 5 * PAGE, 'the lower file stays');
  },
);

guestTest('truncating through FUSE copies up what is left and nothing else (E4)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await fileBelow(guest, client);

  await client.truncate({ path: stack.fuse.file('d/f'), length: 10 });
  t.is(text(await client.readFile({ path: `${stack.upper}/d/f` })), 'x'.repeat(10), 'the upper file');
  t.is((await client.stat({ path: stack.overlay.file('d/f') })).size, 10, 'the size on the overlay');
  t.is((await client.stat({ path: `${stack.lower}/d/f` })).size, 5 * PAGE, 'the lower file stays');
});

guestTest('a truncation copies the data up even where only metadata would be', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const { upper, work } = await upperOn(guest);
  for (const name of ['cut', 'changed']) {
    await client.writeFile({ path: `${lower}/${name}`, data: 'from the lower layer' });
  }
  await using overlay = await guest.mountOverlay({ lower, upper, work, options: 'metacopy=on' }, client);
  await using fuse = await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } });

  await client.chmod({ path: fuse.file('changed'), mode: 0o600 });
  t.not(text(await client.readFile({ path: `${upper}/changed` })), 'from the lower layer', 'metadata alone');
  t.is(text(await client.readFile({ path: fuse.file('changed') })), 'from the lower layer');
  await client.truncate({ path: fuse.file('cut'), length: 8 });
  t.is(text(await client.readFile({ path: `${upper}/cut` })), 'from the', 'the upper file');
  t.is(text(await client.readFile({ path: fuse.file('cut') })), 'from the', 'through FUSE');
});

guestTest('changing attributes on an overlay shows at once and leaves the lower file', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await fileBelow(guest, client);
  const path = stack.overlay.file('d/f');

  await client.chmod({ path, mode: 0o604 });
  const fd = await client.open({ path, flags: 'O_RDONLY' });
  for (const [where, stat] of [
    ['by its path', await client.stat({ path })],
    ['by a descriptor', await client.fstat({ fd })],
    ['in the upper layer', await client.stat({ path: `${stack.upper}/d/f` })],
  ] as const) {
    t.is((stat.mode & 0o7777).toString(8), '604', where);
  }
  await client.close({ fd });
  t.is((await client.stat({ path: `${stack.lower}/d/f` })).mode & 0o777, 0o640, 'the lower file stays');
});

guestTest('a caller may write on an overlay what its own rights allow, and no more', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await fileBelow(guest, client);
  const path = stack.overlay.file('d/f');
  await client.chmod({ path: `${stack.lower}/d`, mode: 0o755 });
  await using owner = await guest.client();
  await owner.setCredentials({ uid: 1234, gid: 1234 });
  await using stranger = await guest.client();
  await stranger.setCredentials({ uid: 4000, gid: 4000 });

  t.is(await stranger.errno.open({ path, flags: 'O_RDONLY' }), 'EACCES', 'a stranger, reading');
  t.is(await stranger.errno.open({ path, flags: 'O_RDWR' }), 'EACCES', 'a stranger, writing');
  t.deepEqual(await client.readdir({ path: stack.upper }), [], 'nothing was copied up for it');
  const fd = await owner.open({ path, flags: 'O_RDWR' });
  await owner.pwrite({ fd, data: 'mine', offset: 0 });
  await owner.close({ fd });
  t.is((await client.stat({ path: `${stack.upper}/d/f` })).uid, 1234, 'the owner of what was copied up');
  const made = await owner.errno.creat({ path: stack.overlay.file('d/new') });
  t.is(made, 'EACCES', 'a copy-up leaves the caller with its own rights');
});

/** Modes of files and directories below, of which a umask of 077 and a careless copy would take some bits. */
const MODES = { file: [0o666, 0o777, 0o4755, 0o2775, 0o400], directory: [0o1777, 0o2775, 0o777] } as const;

guestTest(
  'what is copied up keeps every bit of its mode, whatever the umask of who writes',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    const names = (kind: keyof typeof MODES) =>
      MODES[kind].map((mode) => ({ mode, name: `${kind}-${mode.toString(8)}` }));
    for (const { mode, name } of names('file')) {
      await client.writeFile({ path: `${lower}/${name}`, data: 'x' });
      await client.chmod({ path: `${lower}/${name}`, mode });
    }
    for (const { mode, name } of names('directory')) {
      await client.mkdir({ path: `${lower}/${name}` });
      await client.writeFile({ path: `${lower}/${name}/f`, data: 'x' });
      await client.chmod({ path: `${lower}/${name}`, mode });
    }
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    await using fuse = await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } });
    const modeOf = async (path: string) => ((await client.stat({ path })).mode & 0o7777).toString(8);

    await client.umask({ mask: 0o077 });
    for (const { mode, name } of names('file')) {
      // Opened and closed: a write would take setuid and setgid away.
      const fd = await client.open({ path: overlay.file(name), flags: 'O_RDWR' });
      t.is(await modeOf(`${layers.upper}/${name}`), mode.toString(8), `${name}, in the upper layer`);
      t.is(await modeOf(fuse.file(name)), mode.toString(8), `${name}, through FUSE`);
      await client.close({ fd });
    }
    for (const { mode, name } of names('directory')) {
      const fd = await client.open({ path: overlay.file(`${name}/f`), flags: 'O_RDWR' });
      t.is(await modeOf(`${layers.upper}/${name}`), mode.toString(8), `${name}, in the upper layer`);
      t.is(await modeOf(fuse.file(name)), mode.toString(8), `${name}, through FUSE`);
      await client.close({ fd });
    }
  },
);

/** For its owner and user 1500. */
const ACL = Buffer.from(aclFor([1500], 7));

guestTest(
  'data behind a hole, access control lists and inode flags are copied up as well (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    const path = `${lower}/f`;
    await client.writeFile({ path, data: 'begin' });
    const fd = await client.open({ path, flags: 'O_RDWR' });
    await client.pwrite({ fd, data: 'behind', offset: 300 * PAGE });
    await client.pwrite({ fd, data: 'end', offset: 900 * PAGE });
    await client.close({ fd });
    await client.setxattr({ path, name: 'system.posix_acl_access', data: new Uint8Array(ACL) });
    // A: no access times.
    await guest.run(['chattr', '+A', path]);
    const { mode } = await client.stat({ path });
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    await using fuse = await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } });
    await client.close({ fd: await client.open({ path: fuse.file('f'), flags: 'O_RDWR' }) });

    const upper = `${layers.upper}/f`;
    const seen = await client.open({ path: upper, flags: 'O_RDONLY' });
    const at = async (offset: number): Promise<string> =>
      text(await client.pread({ fd: seen, count: 6, offset }));
    t.is(await at(0), 'begin\0');
    t.is(await at(300 * PAGE), 'behind', 'behind a hole');
    t.is(await at(900 * PAGE), 'end', 'behind another');
    await client.close({ fd: seen });
    t.is((await client.stat({ path: upper })).mode, mode);
    const acl = await client.getxattr({ path: upper, name: 'system.posix_acl_access' });
    t.deepEqual(Buffer.from(acl), ACL, 'the access control list');
    t.regex((await guest.run(['lsattr', upper])).stdout, /^[^ ]*A/, 'the flags of the inode');
    await using stranger = await guest.client();
    await stranger.setCredentials({ uid: 1500, gid: 1500 });
    t.is(await stranger.errno.open({ path: overlay.file('f'), flags: 'O_RDWR' }), 'ok', 'who the list names');
  },
);

guestTest(
  'data that is copied up after the metadata is all there, and no mark is left (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const { upper, work } = await upperOn(guest);
    await client.writeFile({ path: `${lower}/f`, data: 'from the lower layer' });
    await using overlay = await guest.mountOverlay({ lower, upper, work, options: 'metacopy=on' }, client);
    await using fuse = await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } });
    const mark = { path: `${upper}/f`, name: 'trusted.overlay.metacopy' };
    await client.chmod({ path: fuse.file('f'), mode: 0o600 });
    t.is(await client.errno.getxattr(mark), 'ok', 'metadata alone is marked');
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.pwrite({ fd, data: 'FROM', offset: 0 });
    await client.close({ fd });
    t.is(await client.errno.getxattr(mark), 'ENODATA');
    t.is(text(await client.readFile({ path: `${upper}/f` })), 'FROM the lower layer', 'the upper file');
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'FROM the lower layer', 'through FUSE');
  },
);

guestTest(
  'an open for writing that copies up the data of a file keeps its times, as any open does (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    await client.writeFile({ path: `${lower}/f`, data: 'from the lower layer' });
    await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'metacopy=on' }, client);
    const path = overlay.file('f');
    // Metadata alone is copied up for this.
    await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
    t.is((await client.stat({ path })).mtimeNs, LONG_AGO_NS);
    const fd = await client.open({ path, flags: 'O_RDWR' });
    t.is((await client.fstat({ fd })).mtimeNs, LONG_AGO_NS, 'nothing was written');
    await client.close({ fd });
  },
);

guestTest(
  'a file that may only grow stays so when it is copied up, mounted again too (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    await client.writeFile({ path: `${lower}/f`, data: 'from below' });
    await guest.run(['chattr', '+a', `${lower}/f`]);
    const check = async (path: string, when: string): Promise<void> => {
      t.is(await client.errno.open({ path, flags: 'O_RDWR' }), 'EPERM', `${when}: it cannot be overwritten`);
      t.is(await client.errno.unlink({ path }), 'EPERM', `${when}: nor removed`);
      t.regex((await guest.run(['lsattr', path])).stdout, /^[^ ]*a/, `${when}: the flag is told`);
    };
    {
      await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
      await check(overlay.file('f'), 'below');
      const fd = await client.open({ path: overlay.file('f'), flags: 'O_WRONLY|O_APPEND' });
      await client.write({ fd, data: ', and more' });
      await client.close({ fd });
      t.is(text(await client.readFile({ path: `${layers.upper}/f` })), 'from below, and more', 'copied up');
      await check(overlay.file('f'), 'copied up');
    }
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    await check(overlay.file('f'), 'mounted again');
    await guest.run(['chattr', '-a', `${lower}/f`]);
  },
);
