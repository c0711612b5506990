import { text } from '../lib/bytes.ts';
import type { InitReply } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';
import { needsMaxStackDepth } from '../lib/stack-depth.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

/** Answers to INIT that leave the feature off without a word: the mount works, registering does not. */
const OFF: Readonly<Record<string, InitReply>> = {
  'without INIT_EXT': { dropFlags: ['INIT_EXT'] },
  'without the PASSTHROUGH flag': WITHOUT_PASSTHROUGH,
  'with max_stack_depth 0': { maxStackDepth: 0 },
  'with max_stack_depth 3': { maxStackDepth: 3 },
  'with the greatest max_stack_depth': { maxStackDepth: 0xffff_ffff },
  'with WRITEBACK_CACHE': { addFlags: ['WRITEBACK_CACHE'] },
  'with WRITEBACK_CACHE and max_stack_depth 2': { addFlags: ['WRITEBACK_CACHE'], maxStackDepth: 2 },
};

for (const [what, init] of Object.entries(OFF)) {
  guestTest(`an INIT answer ${what} leaves passthrough off (B2-B4, B25)`, async (t, guest) => {
    if (init.maxStackDepth !== undefined) needsMaxStackDepth(guest);
    const withCache = init.addFlags?.includes('WRITEBACK_CACHE') === true;
    guest.needs(guest.expected.excludesWritebackCache || !withCache, 'quarrel with the writeback cache');
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'served' });

    const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
    t.is(await fuse.server.registerErrno(file), guest.expected.notNegotiated);
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'served', 'the mount works all the same');
    t.deepEqual(await fuse.opcodes('READ'), ['READ'], 'through the server');

    await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId: 1 }, 1);
    const claims = 'an open answer that claims passthrough';
    t.is(await openErrno(client, fuse.file('f')), guest.expected.unknownIdAtOpen, claims);
  });
}

guestTest(
  'the minor version of the INIT answer does not matter, but for one from before there were flags (B25)',
  async (t, guest) => {
    const { notNegotiated } = guest.expected;
    const rows = [
      { minor: 4, registers: notNegotiated },
      { minor: 5, registers: notNegotiated },
      { minor: 6, registers: 'ok' },
      { minor: 31, registers: 'ok' },
      { minor: 39, registers: 'ok' },
      { minor: 40, registers: 'ok' },
      { minor: 0xffff_ffff, registers: 'ok' },
    ];
    const client = await guest.client();
    await using _client = client;
    for (const { minor, registers } of rows) {
      await using fuse = await guest.mountFuse({ passthrough: 'off', init: { minor } });
      await client.writeFile({ path: fuse.backing('f'), data: 'x' });
      const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
      t.is(await fuse.server.registerErrno(file), registers, `7.${minor}`);
    }
  },
);

for (const maxStackDepth of [1, 2]) {
  guestTest(
    `an INIT answer with max_stack_depth ${maxStackDepth} turns passthrough on (B3)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ init: { maxStackDepth } });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'from the backing file' });

      t.is(await fuse.server.registerErrno({ path: fuse.backing('f'), flags: 'O_RDWR' }), 'ok');
      t.is(text(await client.readFile({ path: fuse.file('f') })), 'from the backing file');
      t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}

guestTest('the kernel offers PASSTHROUGH in its INIT request', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  const name = guest.expected.abi === 'backing-id' ? 'PASSTHROUGH' : 'PASSTHROUGH_FD';
  t.true(fuse.init?.flagsOffered.includes(name));
  t.true(fuse.init?.flagsOffered.includes('INIT_EXT'));
});

guestTest('the kernel offers in its INIT request everything that it has', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  const offered = fuse.init?.flagsOffered ?? [];
  const missing = guest.expected.offers.filter((flag) => !offered.includes(flag));
  t.deepEqual(missing, [], 'INIT does not offer these');
  // Of virtiofs alone.
  const foreign = offered.filter((flag) => /^(MAP_ALIGNMENT|SUBMOUNTS|HAS_INODE_DAX|FILE_OPS)$/.test(flag));
  t.deepEqual(foreign, [], 'INIT offers these, which no server in user space can use');
});

guestTest('a second INIT answer does not turn passthrough on afterwards (B25)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const [init] = await fuse.requests('INIT');

  // Header only, success: what matters is that no request of that number waits for an answer any more.
  const late = new Uint8Array(16);
  const view = new DataView(late.buffer);
  view.setUint32(0, late.length, true);
  view.setBigUint64(8, BigInt(init?.unique ?? 0), true);
  t.is(await fuse.server.writeDevice(late), 'ENOENT');
  const errno = await fuse.server.registerErrno({ path: fuse.backing('f'), flags: 'O_RDWR' });
  t.is(errno, guest.expected.notNegotiated);
});
