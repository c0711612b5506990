import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** Devices and numbers of an overlay whose layers are on three filesystems. */

guestTest(
  'without xino files of each of three filesystems have a device of its own, and directories that of the overlay (E18)',
  async (t, guest) => {
    await using client = await guest.client();
    const first = await guest.directory('ext4', 'lower');
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    await fill(client, first, ['one', 'one-copied', 'one-dir/', 'one-copied-dir/']);
    await fill(client, fuse.root, ['two', 'two-copied', 'two-dir/', 'two-copied-dir/']);
    const layers = await upperOn(guest, 'tmpfs');
    const options = 'xino=off';
    await using overlay = await guest.mountOverlay({ lower: [first, fuse.path], ...layers, options }, client);
    await fill(client, overlay.path, ['new', 'new-dir/']);
    const identity = async (name: string) => {
      const { devMajor, devMinor, ino } = await client.stat({ path: overlay.file(name) });
      return { device: `${devMajor}:${devMinor}`, ino };
    };
    const { device: top } = await identity('');
    const devices = new Set([top]);
    for (const name of ['one', 'two', 'new']) {
      const { device } = await identity(name);
      t.false(devices.has(device), `${name} has a device that neither the overlay nor another layer has`);
      devices.add(device);
    }
    for (const layer of ['one', 'two']) {
      const { device } = await identity(layer);
      const [file, directory] = [`${layer}-copied`, `${layer}-copied-dir`];
      // The number of such a directory lasts as long as somebody uses it.
      const fd = await client.open({ path: overlay.file(directory), flags: 'O_RDONLY|O_DIRECTORY' });
      const before = [await identity(file), await identity(directory)];
      t.is(before[0]?.device, device, `${file}: the device of its layer`);
      for (const path of [file, directory].map((name) => overlay.file(name))) {
        await client.chmod({ path, mode: 0o700 });
      }
      t.deepEqual(await identity(file), before[0], `${file}: as before its copy-up`);
      t.deepEqual(await identity(directory), before[1], `${directory}: as before its copy-up`);
      await client.close({ fd });
    }
    for (const name of ['one-dir', 'two-dir', 'new-dir', 'one-copied-dir', 'two-copied-dir']) {
      t.is((await identity(name)).device, top, `${name}: the device of the overlay`);
    }
  },
);
