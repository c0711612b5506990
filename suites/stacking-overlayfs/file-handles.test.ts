import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMaxStackDepth } from '../lib/stack-depth.ts';
import { upperOn } from '../lib/stack.ts';

/** Handles of files in an overlay, which are those of its layers in an envelope (nfs_export, overlayfs.rst). */

/** OVL_FILEID_V1, fs/overlayfs/overlayfs.h. */
const OVERLAY_HANDLE = 0xf8;
const WITH_HANDLES = 'index=on,nfs_export=on';

type Below = 'ext4' | 'FUSE in passthrough mode';

interface Layers extends AsyncDisposable {
  /** Paths of an overlay on the layers, mounted anew at each call; the one before must be gone. */
  readonly mount: (
    options: string,
  ) => Promise<AsyncDisposable & { path: string; file(name: string): string }>;
}

/** A lower layer with `low`, `copied`, `gone` and `d/one`, and an upper one that is empty. */
async function layersOn(guest: TestGuest, client: Client, below: Below): Promise<Layers> {
  await using undo = new AsyncDisposableStack();
  const root = await guest.directory('ext4', 'lower');
  for (const name of ['low', 'copied', 'gone'])
    await client.writeFile({ path: `${root}/${name}`, data: name });
  await client.mkdir({ path: `${root}/d` });
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
      const names = ['low', 'copied', 'gone', 'new', 'd'];
      const handles = new Map<string, { type: number; handle: Uint8Array }>();
      const handleOf = (name: string) => handles.get(name) ?? { type: 0, handle: new Uint8Array() };
      {
        await using overlay = await layers.mount(WITH_HANDLES);
        await client.writeFile({ path: overlay.file('new'), data: 'new' });
        await client.writeFile({ path: overlay.file('d/two'), data: '2' });
        for (const name of names) {
          const handle = await client.nameToHandle({ path: overlay.file(name) });
          t.is(handle.type, OVERLAY_HANDLE, name);
          handles.set(name, handle);
        }
        const append = await client.open({ path: overlay.file('copied'), flags: 'O_WRONLY|O_APPEND' });
        await client.write({ fd: append, data: ' up' });
        await client.close({ fd: append });
        await client.rename({ from: overlay.file('new'), to: overlay.file('d/moved') });
        await client.unlink({ path: overlay.file('gone') });
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
        const gone = await client.errno.openByHandle({ mountFd, ...handleOf('gone'), flags: 'O_RDONLY' });
        t.is(gone, 'ESTALE', `gone ${when}`);
        const d = await open('d');
        t.deepEqual(await client.readdirFd({ fd: d }), ['moved', 'one', 'two'], `d ${when}`);
        t.is(await client.readlink({ path: `/proc/self/fd/${d}` }), `${mount}/d`);
        for (const fd of [d, mountFd]) await client.close({ fd });
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
