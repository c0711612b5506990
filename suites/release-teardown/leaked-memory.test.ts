import { guestTest } from '../lib/guest-test.ts';

const KMEMLEAK = '/sys/kernel/debug/kmemleak';
/** kmemleak leaves alone what was allocated within the last 5 s (Documentation/dev-tools/kmemleak.rst). Seconds. */
const YOUNG = 6;
/** Two scans of a guest's memory without KVM. Milliseconds. */
const SCAN_MS = 60_000;

guestTest(
  'what mounts, registrations and opens allocate in FUSE is pointed at or freed',
  async (t, guest) => {
    const { code } = await guest.tryRun(['test', '-e', KMEMLEAK]);
    guest.needsBuilt(code === 0, 'kmemleak: the debug profiles have it');
    for (let round = 0; round < 3; round++) {
      await using fuse = await guest.mountFuse();
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      await client.pwrite({ fd, data: 'written', offset: 0 });
      await client.close({ fd });
    }
    // No event tells that an object is old enough, and only the second scan reports what changed since the first.
    const script = `sleep ${YOUNG}; echo scan > ${KMEMLEAK}; echo scan > ${KMEMLEAK}; cat ${KMEMLEAK}`;
    const { stdout } = await guest.run(['sh', '-c', script], { timeoutMs: SCAN_MS });
    const leaks = stdout.split(/^(?=unreferenced object)/m).filter((object) => object.includes('fuse'));
    t.deepEqual(leaks, []);
  },
);
