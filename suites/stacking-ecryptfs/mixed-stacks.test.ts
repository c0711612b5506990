import { guestTest } from '../lib/guest-test.ts';
import { depthInWords } from '../lib/stack-depth.ts';
import { Stack, type Layer } from '../lib/stack.ts';
import { ecryptfsRequest } from '../lib/stacked-mount.ts';

/** V11 of the 2021 series let a FUSE file have these below it; V12 and mainline do not. */
const TOO_DEEP: readonly (readonly [Layer, Layer])[] = [
  ['ecryptfs', 'overlayfs'],
  ['overlayfs', 'ecryptfs'],
];

for (const [lower, upper] of TOO_DEEP) {
  guestTest.alone(`a file on ${upper} over ${lower} is too deep to be registered`, async (t, guest) => {
    await using client = await guest.client();
    await using stack = await Stack.build(guest, client, [lower, upper]);
    await client.writeFile({ path: stack.file('f'), data: 'at the top' });
    await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });

    const errno = await fuse.server.registerErrno({ path: stack.file('f'), flags: 'O_RDWR' });
    t.is(errno, guest.expected.tooDeep, depthInWords(`backing file on ${stack.name}`, 2));
    await using single = await Stack.build(guest, client, [upper]);
    await client.writeFile({ path: single.file('f'), data: 'one level less' });
    const control = await fuse.server.registerErrno({ path: single.file('f'), flags: 'O_RDWR' });
    t.is(control, 'ok', depthInWords(`backing file on ${upper}`, 1));
  });
}

guestTest.alone(
  'ecryptfs among the lower layers of an overlay counts, wherever it stands (E8)',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
    const ext4 = await guest.directory('ext4', 'low');
    await using ecryptfs = await guest.mountEcryptfs({ lower: await guest.directory('ext4') }, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'encrypted' });
    await client.writeFile({ path: `${ext4}/clear`, data: 'clear' });
    const mixes = [
      { name: 'ECRYPTFS:EXT4', lower: [ecryptfs.path, ext4] },
      { name: 'EXT4:ECRYPTFS', lower: [ext4, ecryptfs.path] },
    ];
    for (const { name, lower } of mixes) {
      await using overlay = await guest.mountOverlay({ lower }, client);
      // Seen, not opened: up to 6.6 ecryptfs crashes on a file that overlayfs opens, with or without FUSE.
      t.is(await client.errno.stat({ path: overlay.file('f') }), 'ok', `lowerdir=${name} mounts`);
      // The file itself is on ext4: it is the overlay's superblock that counts.
      const errno = await fuse.server.registerErrno({ path: overlay.file('clear'), flags: 'O_RDONLY' });
      const message = depthInWords(`backing file on overlayfs with lowerdir=${name}`, 2);
      t.is(errno, guest.expected.tooDeep, message);
    }
  },
);

guestTest('ecryptfs over ecryptfs is refused for itself, at any depth', async (t, guest) => {
  await using client = await guest.client();
  await using ecryptfs = await guest.mountEcryptfs({ lower: await guest.directory('ext4') }, client);
  const request = ecryptfsRequest(ecryptfs.path, await guest.ecryptfsKey());
  t.is(await guest.mountErrno(request, client), 'EINVAL');
});
