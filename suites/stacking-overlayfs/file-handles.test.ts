import { text } from '../lib/bytes.ts';
import type { Client, FileHandle } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMaxStackDepth } from '../lib/stack-depth.ts';
import { upperOn } from '../lib/stack.ts';

/** Handles of files in an overlay, which are those of its layers in an envelope (nfs_export, overlayfs.rst). */

/** OVL_FILEID_V1, fs/overlayfs/overlayfs.h. */
const OVERLAY_HANDLE = 0xf8;
const WITH_HANDLES = 'index=on,nfs_export=on,redirect_dir=on';

type Below = 'ext4' | 'FUSE in passthrough mode';

interface Layers extends AsyncDisposable {
  /** Paths of an overlay on the layers, mounted anew at each call; the one before must be gone. */
  readonly mount: (
    options: string,
  ) => Promise<AsyncDisposable & { path: string; file(name: string): string }>;
}

/** A lower layer with some files and directories, and an upper one that is empty. */
async function layersOn(guest: TestGuest, client: Client, below: Below): Promise<Layers> {
  await using undo = new AsyncDisposableStack();
  const root = await guest.directory('ext4', 'lower');
  for (const name of ['low', 'copied', 'gone'])
    await client.writeFile({ path: `${root}/${name}`, data: name });
  for (const name of ['d', 'deep', 'deep/inner', 'left', 'emptied']) {
    await client.mkdir({ path: `${root}/${name}` });
  }
  await client.writeFile({ path: `${root}/d/one`, data: '1' });
  let lower = root;
  if (below !== 'ext4') {
    const init = { maxStackDepth: 1, addFlags: ['EXPORT_SUPPORT'] } as const;
    const fuse = undo.use(await guest.mountFuse({ root, init }));
    // A handle may be used when the kernel has forgotten the node: this server has not.
    await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
    lower = fuse.path;
  }
  const upper = await upperOn(guest);
  const all = undo.move();
  return {
    mount: (options) => guest.mountOverlay({ lower, ...upper, options }, client),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

for (const below of ['ext4', 'FUSE in passthrough mode'] as const) {
  guestTest(
    `with nfs_export a handle stays good over copy-up, rename and another mount, on ${below} (E17)`,
    async (t, guest) => {
      needsMaxStackDepth(guest);
      await using client = await guest.client();
      await using layers = await layersOn(guest, client, below);
      const names = ['low', 'copied', 'gone', 'new', 'd', 'deep/inner', 'left', 'emptied', 'made', ''];
      const handles = new Map<string, FileHandle>();
      const handleOf = (name: string) => handles.get(name) ?? { type: 0, handle: new Uint8Array() };
      {
        await using overlay = await layers.mount(WITH_HANDLES);
        await client.writeFile({ path: overlay.file('new'), data: 'new' });
        await client.writeFile({ path: overlay.file('d/two'), data: '2' });
        await client.mkdir({ path: overlay.file('made') });
        for (const name of names) {
          const handle = await client.nameToHandle({ path: overlay.file(name) });
          t.is(handle.type, OVERLAY_HANDLE, name);
          const other = await client.nameToHandle({ path: overlay.file(name), room: 100 });
          t.deepEqual(other, handle, 'as long as it is, whatever there is room for');
          handles.set(name, handle);
        }
        const append = await client.open({ path: overlay.file('copied'), flags: 'O_WRONLY|O_APPEND' });
        await client.write({ fd: append, data: ' up' });
        await client.close({ fd: append });
        await client.rename({ from: overlay.file('new'), to: overlay.file('d/moved') });
        await client.unlink({ path: overlay.file('gone') });
        await client.rmdir({ path: overlay.file('emptied') });
        await client.rename({ from: overlay.file('deep'), to: overlay.file('renamed') });
        await client.rename({ from: overlay.file('made'), to: overlay.file('d/made') });
        t.deepEqual(
          await client.nameToHandle({ path: overlay.file('copied') }),
          handleOf('copied'),
          'a file that was copied up has the handle that it had',
        );
        await check(overlay.path, 'on the mount that the handles are of');
      }
      await using again = await layers.mount(WITH_HANDLES);
      await check(again.path, 'on another mount of the same layers');

      async function check(mount: string, when: string): Promise<void> {
        const mountFd = await client.open({ path: mount, flags: 'O_RDONLY|O_DIRECTORY' });
        const open = (name: string) => client.openByHandle({ mountFd, ...handleOf(name), flags: 'O_RDONLY' });
        for (const [name, data] of [
          ['low', 'low'],
          ['copied', 'copied up'],
          ['new', 'new'],
        ] as const) {
          const fd = await open(name);
          t.is(text(await client.pread({ fd, count: 100, offset: 0 })), data, `${name} ${when}`);
          await client.close({ fd });
        }
        for (const name of ['gone', 'emptied']) {
          const errno = await client.errno.openByHandle({ mountFd, ...handleOf(name), flags: 'O_RDONLY' });
          t.is(errno, 'ESTALE', `${name} ${when}`);
        }
        for (const [name, now, contents] of [
          ['d', '/d', ['made', 'moved', 'one', 'two']],
          ['deep/inner', '/renamed/inner', []],
          ['left', '/left', []],
          ['made', '/d/made', []],
          ['', '', ['copied', 'd', 'left', 'low', 'renamed']],
        ] as const) {
          const fd = await open(name);
          t.deepEqual(await client.readdirFd({ fd }), contents, `${name} ${when}`);
          t.is(await client.readlink({ path: `/proc/self/fd/${fd}` }), `${mount}${now}`, `${name} ${when}`);
          await client.close({ fd });
        }
        await client.close({ fd: mountFd });
      }
    },
  );
}

guestTest('without nfs_export an overlay has no handles to open files by (E17)', async (t, guest) => {
  await using client = await guest.client();
  await using layers = await layersOn(guest, client, 'ext4');
  for (const options of ['index=on', 'index=off']) {
    await using overlay = await layers.mount(options);
    t.is(await client.errno.nameToHandle({ path: overlay.file('low') }), 'EOPNOTSUPP', options);
  }
});

guestTest(
  'what has a handle below a merged directory is copied up where it must be (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const [first, second] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'lower')];
    await client.mkdir({ path: `${first}/a` });
    for (const name of ['a', 'a/b', 'a/b/c']) await client.mkdir({ path: `${second}/${name}` });
    const layers = await upperOn(guest);
    const how = { lower: [first, second], ...layers, options: WITH_HANDLES };
    const open = async (path: string, handle: FileHandle, now: string) => {
      const mountFd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
      const fd = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY|O_DIRECTORY' });
      t.is(await client.readlink({ path: `/proc/self/fd/${fd}` }), `${path}${now}`);
      for (const each of [fd, mountFd]) await client.close({ fd: each });
    };
    let handle;
    {
      await using overlay = await guest.mountOverlay(how, client);
      handle = await client.nameToHandle({ path: overlay.file('a/b/c') });
      t.is(await client.errno.stat({ path: `${layers.upper}/a/b` }), 'ok', 'the topmost of its own layer');
      t.is(await client.errno.stat({ path: `${layers.upper}/a/b/c` }), 'ENOENT', 'and nothing else');
      await open(overlay.path, handle, '/a/b/c');
      await client.rename({ from: overlay.file('a'), to: overlay.file('z') });
    }
    await using again = await guest.mountOverlay(how, client);
    await open(again.path, handle, '/z/b/c');
  },
);
