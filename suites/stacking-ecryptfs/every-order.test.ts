import { firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { depthInWords, needsMaxStackDepth } from '../lib/stack-depth.ts';
import { Stack, type Layer } from '../lib/stack.ts';

const LAYERS: readonly Layer[] = ['overlayfs', 'ecryptfs', 'FUSE'];

for (const lower of LAYERS) {
  for (const upper of LAYERS) {
    if (lower === 'ecryptfs' && upper === 'ecryptfs') continue; // refused for itself: see mixed-stacks
    guestTest.alone(`${upper} over ${lower} works and takes no third layer (E11)`, async (t, guest) => {
      if (lower === 'FUSE') needsMaxStackDepth(guest);
      await using client = await guest.client();
      await using stack = await Stack.build(guest, client, [lower, upper]);

      const data = pattern(10_000);
      await client.writeFile({ path: stack.file('f'), data });
      t.is(firstDifference(await client.readFile({ path: stack.file('f') }), data), undefined, stack.name);
      for (const fuse of stack.fuses) t.deepEqual(await fuse.dataRequests(), [], stack.name);

      for (const third of LAYERS) {
        const expected = third === 'FUSE' ? guest.expected.tooDeep : 'EINVAL';
        t.is(await stack.fits(third), expected, depthInWords(stack.nameWith(third), stack.depth));
      }
    });
  }
}
