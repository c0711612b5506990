import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { depthInWords, needsMaxStackDepth } from '../lib/stack-depth.ts';
import { overlayRequest } from '../lib/stacked-mount.ts';
import { upperOn } from '../lib/stack.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

type Init = FuseOptions['init'];

const SHALLOW: Init = { maxStackDepth: 1 };

/** FUSE filesystems that count 0: passthrough is off on them. */
const OFF: readonly { readonly name: string; readonly init: Init }[] = [
  { name: 'without the flag', init: WITHOUT_PASSTHROUGH },
  { name: 'with the flag and max_stack_depth 0', init: { maxStackDepth: 0 } },
  { name: 'with the flag and max_stack_depth 3, more than there is', init: { maxStackDepth: 3 } },
];

for (const { name, init } of OFF) {
  guestTest(`overlayfs mounts over FUSE ${name} (E12)`, async (t, guest) => {
    if (init?.maxStackDepth !== undefined) needsMaxStackDepth(guest);
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await client.writeFile({ path: fuse.backing('f'), data: 'served' });
    const source = { path: fuse.backing('f'), flags: 'O_RDWR' };
    t.is(await fuse.server.registerErrno(source), guest.expected.notNegotiated, 'passthrough is off');

    const message = depthInWords(`overlayfs over FUSE ${name}`, 0);
    t.is(
      await guest.mountErrno(overlayRequest({ lower: fuse.path, ...(await upperOn(guest)) }), client),
      'ok',
      message,
    );
    await using overlay = await guest.mountOverlay({ lower: fuse.path, ...(await upperOn(guest)) }, client);
    const message2 = depthInWords(`overlayfs over overlayfs over FUSE ${name}`, 1);
    t.is(
      await guest.mountErrno(overlayRequest({ lower: overlay.path, ...(await upperOn(guest)) }), client),
      'ok',
      message2,
    );
    t.is(text(await client.readFile({ path: overlay.file('f') })), 'served');
  });
}

guestTest('overlayfs over FUSE with max_stack_depth 1 fits once', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: SHALLOW });
  const request = async (lower: string) => overlayRequest({ lower, ...(await upperOn(guest)) });

  const one = depthInWords('overlayfs over FUSE with max_stack_depth 1', 1);
  t.is(await guest.mountErrno(await request(fuse.path), client), 'ok', one);
  await using overlay = await guest.mountOverlay({ lower: fuse.path, ...(await upperOn(guest)) }, client);
  const two = depthInWords('overlayfs over overlayfs over FUSE with max_stack_depth 1', 2);
  t.is(await guest.mountErrno(await request(overlay.path), client), 'EINVAL', two);
});

guestTest(
  'overlayfs over FUSE with max_stack_depth 2 is refused, as lower and as upper layer',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
    const lower = await guest.directory('ext4', 'lower');
    for (const name of ['upper', 'work']) await client.mkdir({ path: fuse.backing(name) });
    const onFuse = { upper: fuse.file('upper'), work: fuse.file('work') };
    const onExt4 = await upperOn(guest);
    const message = depthInWords('overlayfs over FUSE with max_stack_depth 2', 2);

    t.is(
      await guest.mountErrno(overlayRequest({ lower, ...onExt4 }), client),
      'ok',
      'without FUSE it mounts',
    );
    t.is(await guest.mountErrno(overlayRequest({ lower: fuse.path, ...onExt4 }), client), 'EINVAL', message);
    t.is(
      await guest.mountErrno(overlayRequest({ lower, ...onFuse }), client),
      'EINVAL',
      `as upper: ${message}`,
    );
  },
);

guestTest(
  'reading, mapping and executing through overlayfs over FUSE send no READ (E1)',
  async (t, guest) => {
    needsMaxStackDepth(guest);
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ init: SHALLOW });
    const data = pattern(30_000);
    await client.writeFile({ path: fuse.backing('f'), data });
    await guest.run(['cp', '/bin/echo', fuse.backing('echo')]);
    await using overlay = await guest.mountOverlay({ lower: fuse.path, ...(await upperOn(guest)) }, client);

    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
    t.is(firstDifference(await client.pread({ fd, count: 40_000, offset: 0 }), data), undefined, 'read');
    const map = await client.mmap({ fd, length: 30_000, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    t.is(firstDifference(await client.mread({ map, offset: 0, length: 30_000 }), data), undefined, 'mapping');
    await client.munmap({ map });
    await client.close({ fd });
    t.is((await guest.run([overlay.file('echo'), 'executed'])).stdout, 'executed\n');
    t.deepEqual(await fuse.dataRequests(), []);
    t.not((await fuse.requests('OPEN')).length, 0, 'the server saw the opens');
  },
);

guestTest('copy-up from FUSE leaves the served file alone and sends no READ (E1)', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: SHALLOW });
  const data = pattern(200_000);
  await client.writeFile({ path: fuse.backing('f'), data });
  const layers = await upperOn(guest);
  await using overlay = await guest.mountOverlay({ lower: fuse.path, ...layers }, client);

  const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'written above', offset: 100_000 });
  await client.close({ fd });
  const model = data.slice();
  model.set(new TextEncoder().encode('written above'), 100_000);
  t.is(firstDifference(await client.readFile({ path: overlay.file('f') }), model), undefined, 'overlay');
  t.is(
    firstDifference(await client.readFile({ path: `${layers.upper}/f` }), model),
    undefined,
    'upper layer',
  );
  t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), data), undefined, 'served file');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('FUSE with max_stack_depth 1 is the upper layer of overlayfs (E2)', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: SHALLOW });
  const lower = await guest.directory('ext4', 'lower');
  for (const name of ['upper', 'work']) await client.mkdir({ path: fuse.backing(name) });
  for (const name of ['changed', 'removed'])
    await client.writeFile({ path: `${lower}/${name}`, data: 'lower' });
  const onFuse = { upper: fuse.file('upper'), work: fuse.file('work') };
  await using overlay = await guest.mountOverlay({ lower, ...onFuse }, client);

  const data = pattern(20_000);
  await client.writeFile({ path: overlay.file('new'), data });
  await client.writeFile({ path: overlay.file('changed'), data: ' and upper', flags: 'O_WRONLY|O_APPEND' });
  await client.unlink({ path: overlay.file('removed') });

  t.deepEqual((await client.readdir({ path: overlay.path })).sort(), ['changed', 'new']);
  t.is(firstDifference(await client.readFile({ path: overlay.file('new') }), data), undefined, 'overlay');
  t.is(
    firstDifference(await client.readFile({ path: fuse.backing('upper/new') }), data),
    undefined,
    'server',
  );
  t.is(text(await client.readFile({ path: fuse.backing('upper/changed') })), 'lower and upper');
  t.is(text(await client.readFile({ path: `${lower}/changed` })), 'lower');
  t.is((await client.stat({ path: fuse.backing('upper/removed') })).rdevMajor, 0, 'a whiteout');
  t.deepEqual(await fuse.dataRequests(), []);
});
