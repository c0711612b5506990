import { guestTest } from '../lib/guest-test.ts';
import { fill, hideByAttribute, layersOf } from '../lib/layers.ts';
import { overlayOptionsAt } from '../lib/mounted-at.ts';
import { upperOn } from '../lib/stack.ts';
import { overlayRequest } from '../lib/stacked-mount.ts';

/** Overlays that have no upper layer: which options they take, and what they look for at the top of their layers. */

guestTest(
  'an overlay without an upper layer has handles only if all of its layers have some (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    // It has no handles, in any version of the kernel.
    await using ramfs = await guest.mount({ source: 'ramfs', type: 'ramfs' }, client);
    const [one = '', other = ''] = await layersOf(guest, 2);
    const options = 'nfs_export=on,redirect_dir=nofollow';
    for (const [what, lower, has] of [
      ['all have', [one, other], true],
      ['the first has none', [ramfs.path, one], false],
      ['the last has none', [one, ramfs.path], false],
    ] as const) {
      await using overlay = await guest.mountOverlay({ lower: [...lower], options }, client);
      const shown = await overlayOptionsAt(client, overlay.path);
      t.is(shown.includes('nfs_export=on'), has, `${what}: nfs_export is on`);
    }
  },
);

guestTest(
  'for metacopy it is enough that redirects are followed, unless there is an upper layer',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await layersOf(guest, 2);
    const options = 'metacopy=on,redirect_dir=follow';
    const errno = await guest.mountErrno(overlayRequest({ lower, options }), client);
    t.is(errno, 'ok', 'without one no redirect is made');
    await using overlay = await guest.mountOverlay({ lower, options }, client);
    t.true((await overlayOptionsAt(client, overlay.path)).includes('metacopy=on'), 'metacopy is on');
    const written = overlayRequest({ lower, ...(await upperOn(guest)), options });
    t.is(await guest.mountErrno(written, client), 'EINVAL', 'with one redirects have to be made');
  },
);

guestTest(
  'whiteouts that are attributes count at the top of each lower layer but the lowest that says it has some',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'whiteouts that are attributes');
    await using client = await guest.client();
    const [base = '', one = '', other = ''] = await layersOf(guest, 3);
    await fill(client, base, ['hidden', 'shown']);
    await hideByAttribute(client, one, 'hidden');
    for (const [which, lower] of [
      ['first', [one, other, base]],
      ['second', [other, one, base]],
    ] as const) {
      await using overlay = await guest.mountOverlay({ lower: [...lower] }, client);
      t.deepEqual(await client.readdir({ path: overlay.path }), ['shown'], `in the ${which} of three`);
    }
  },
);
