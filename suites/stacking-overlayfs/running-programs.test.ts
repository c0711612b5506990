import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { Client } from '../lib/client.ts';
import type { TestGuest } from '../lib/guest.ts';
import { openErrno } from '../lib/open-errno.ts';
import { copyProgram, runningFrom, runs } from '../lib/program-file.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** Programs that run from an overlay or from one of its layers, and who may write them meanwhile. */

const CHANGES: Readonly<Record<string, (client: Client, path: string) => Promise<string>>> = {
  'open for writing': (client, path) => openErrno(client, path, 'O_WRONLY'),
  'open with O_TRUNC': (client, path) => openErrno(client, path, 'O_RDWR|O_TRUNC'),
  truncate: (client, path) => client.errno.truncate({ path, length: 1 }),
};

/** A shell in the lower layer, and the overlay. */
async function shellBelow(guest: TestGuest, client: Client, options?: string) {
  const lower = await guest.directory('ext4', 'lower');
  await copyProgram(guest, 'sh', `${lower}/sh`);
  const layers = await upperOn(guest);
  const overlay: StackedMount = await guest.mountOverlay({ lower, ...layers, options }, client);
  return { lower, upper: layers.upper, overlay, path: overlay.file('sh') };
}

/** What opening for writing gives when the program has ended, which takes as long as its shell takes. */
function afterItsEnd(client: Client, path: string): Promise<string> {
  return eventually(
    () => openErrno(client, path, 'O_WRONLY'),
    (errno) => errno !== 'ETXTBSY',
  );
}

guestTest(
  'a program that runs from an overlay is neither written nor copied up for it, until it ends (A20)',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, upper, overlay, path } = await shellBelow(guest, client);
    await using _overlay = overlay;
    {
      await using running = await runningFrom(guest, path);
      for (const [what, change] of Object.entries(CHANGES)) t.is(await change(client, path), 'ETXTBSY', what);
      t.is(await openErrno(client, path, 'O_RDONLY'), 'ok', 'it can be read');
      t.deepEqual(await client.readdir({ path: upper }), [], 'nothing is copied up');
      // An overlay does not know who writes its layers (filesystems/overlayfs.rst).
      const below = await openErrno(client, `${lower}/sh`, 'O_WRONLY');
      t.is(below, 'ok', 'the file of the layer is not guarded');
      t.true((await running.getpid({})) > 0, 'the program works on');
    }
    t.is(await afterItsEnd(client, path), 'ok', 'later');
    t.deepEqual(await client.readdir({ path: upper }), ['sh'], 'it is copied up');
  },
);

for (const [how, options] of [
  ['', undefined],
  [', metadata alone or not', 'metacopy=on'],
] as const) {
  guestTest(
    `a program that runs from an overlay is copied up with a new mode${how}, and is guarded as before (A20)`,
    async (t, guest) => {
      await using client = await guest.client();
      const { lower, upper, overlay, path } = await shellBelow(guest, client, options);
      await using _overlay = overlay;
      const { size } = await client.stat({ path });
      {
        await using running = await runningFrom(guest, path);
        t.is(await client.errno.chmod({ path, mode: 0o711 }), 'ok');
        t.is((await client.stat({ path: `${upper}/sh` })).mode & 0o777, 0o711, 'it is copied up');
        for (const [what, change] of Object.entries(CHANGES)) {
          t.is(await change(client, path), 'ETXTBSY', `${what}, of what is copied up by now`);
        }
        t.is((await client.stat({ path })).size, size, 'nothing is cut off');
        t.is(await runs(guest, path), 'ok', 'it can be run once more');
        t.true((await running.getpid({})) > 0, 'the one that runs works on');
        t.deepEqual(await client.readdir({ path: upper }), ['sh']);
      }
      t.is(await afterItsEnd(client, path), 'ok', 'later');
      const [above, below] = [`${upper}/sh`, `${lower}/sh`];
      const data = Buffer.from(await client.readFile({ path: above }));
      t.true(data.equals(await client.readFile({ path: below })), 'with the data it had');
      t.is(await runs(guest, above), 'ok', 'from the layer');
    },
  );
}

guestTest('a program that is open for writing on an overlay is not run (A20)', async (t, guest) => {
  await using client = await guest.client();
  const { lower, upper, overlay, path } = await shellBelow(guest, client);
  await using _overlay = overlay;
  t.is(await runs(guest, path), 'ok');
  const fd = await client.open({ path, flags: 'O_WRONLY' });
  t.is(await runs(guest, path), 'ETXTBSY');
  t.is(await runs(guest, `${upper}/sh`), 'ETXTBSY', 'nor from the upper layer');
  t.is(await runs(guest, `${lower}/sh`), 'ok', 'the lower layer has another file');
  await client.close({ fd });
  t.is(await runs(guest, path), 'ok', 'when it is closed');
  const below = await client.open({ path: `${upper}/sh`, flags: 'O_WRONLY' });
  t.is(await runs(guest, path), 'ok', 'an overlay does not know who writes its layers');
  await client.close({ fd: below });
});

guestTest(
  'a program that runs from the upper layer is not written through the overlay, one of the lower layer is copied (A20)',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, upper, overlay, path } = await shellBelow(guest, client);
    await using _overlay = overlay;
    {
      await using running = await runningFrom(guest, `${lower}/sh`);
      t.is(await openErrno(client, `${lower}/sh`, 'O_WRONLY'), 'ETXTBSY', 'the lower file');
      t.is(await openErrno(client, path, 'O_WRONLY'), 'ok', 'through the overlay');
      t.deepEqual(await client.readdir({ path: upper }), ['sh'], 'a copy of it');
      t.true((await running.getpid({})) > 0, 'the program works on');
    }
    await copyProgram(guest, 'sh', `${upper}/above`);
    await using running = await runningFrom(guest, `${upper}/above`);
    const { size } = await client.stat({ path: overlay.file('above') });
    for (const [what, change] of Object.entries(CHANGES)) {
      t.is(await change(client, overlay.file('above')), 'ETXTBSY', `the upper file: ${what}`);
    }
    t.is((await client.stat({ path: overlay.file('above') })).size, size, 'nothing is cut off');
    t.is(await client.errno.chmod({ path: overlay.file('above'), mode: 0o711 }), 'ok', 'a new mode');
    t.true((await running.getpid({})) > 0, 'the program works on');
  },
);

guestTest(
  'of a program with two names the other can be written only if that makes it another file (A20)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [options, errno] of [
      ['index=off', 'ok'],
      ['index=on', 'ETXTBSY'],
    ] as const) {
      const { lower, upper, overlay, path } = await shellBelow(guest, client, options);
      await using _overlay = overlay;
      await client.link({ from: `${lower}/sh`, to: `${lower}/also` });
      await using running = await runningFrom(guest, path);
      for (const [what, change] of Object.entries(CHANGES)) {
        t.is(await change(client, path), 'ETXTBSY', `${options}: ${what} by the name it runs by`);
      }
      const other = await openErrno(client, overlay.file('also'), 'O_WRONLY');
      t.is(other, errno, `${options}: by the other name`);
      t.deepEqual(await client.readdir({ path: upper }), errno === 'ok' ? ['also'] : [], options);
      t.true((await running.getpid({})) > 0, 'the program works on');
    }
  },
);

guestTest(
  'a program that was truncated on an overlay is open for writing no more, and is run from the upper layer as well (A20)',
  async (t, guest) => {
    await using client = await guest.client();
    const { upper, overlay, path } = await shellBelow(guest, client);
    await using _overlay = overlay;
    const { size } = await client.stat({ path });
    // To the length that it has, for it is to be a program still: first the lower one, which is copied up, then that copy.
    for (const which of ['a lower one', 'an upper one']) {
      t.is(await client.errno.truncate({ path, length: size }), 'ok', which);
      t.is(await runs(guest, path), 'ok', `${which}: on the overlay`);
      t.is(await runs(guest, `${upper}/sh`), 'ok', `${which}: in the upper layer`);
    }
  },
);
