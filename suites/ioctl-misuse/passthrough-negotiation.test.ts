import { text } from '../lib/bytes.ts';
import type { InitReply } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsSingleUseIds } from '../lib/registration.ts';

/** Answers to INIT that mean something to later kernels, and nothing to the 2021 series. */
const STILL_ON: Readonly<Record<string, InitReply>> = {
  'max_stack_depth 0': { maxStackDepth: 0 },
  'max_stack_depth 3': { maxStackDepth: 3 },
  'the greatest max_stack_depth': { maxStackDepth: 0xffff_ffff },
  'the bit of BACKING_OPEN': { addFlags: ['PASSTHROUGH'] },
  WRITEBACK_CACHE: { addFlags: ['WRITEBACK_CACHE'] },
  'a protocol minor of 2021': { minor: 33 },
};

for (const [what, init] of Object.entries(STILL_ON)) {
  guestTest(`an INIT answer with ${what} leaves single-use ids on`, async (t, guest) => {
    needsSingleUseIds(guest);
    await using fuse = await guest.mountFuse({ init });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'from the backing file' });
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'from the backing file');
    await client.writeFile({ path: fuse.file('f'), data: 'written past the server' });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'written past the server');
    t.deepEqual(await fuse.dataRequests(), []);
  });
}

guestTest('the bit of BACKING_OPEN alone does not turn single-use ids on', async (t, guest) => {
  needsSingleUseIds(guest);
  const init = { dropFlags: ['PASSTHROUGH_FD'], addFlags: ['PASSTHROUGH'] } as const;
  await using fuse = await guest.mountFuse({ passthrough: 'off', init });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  const errno = await fuse.server.registerErrno({ path: fuse.backing('f'), flags: 'O_RDWR' });
  t.is(errno, guest.expected.notNegotiated);
  t.is(text(await client.readFile({ path: fuse.file('f') })), 'served');
});

guestTest('the kernel offers bit 63 and not the bit of BACKING_OPEN', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  const offered = fuse.init?.flagsOffered ?? [];
  t.true(offered.includes('PASSTHROUGH_FD'));
  t.false(offered.includes('PASSTHROUGH'));
});
