import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { metadataAlone } from '../lib/metadata-alone.ts';

/** Redirects that lead nowhere because there is nothing below, and marks on the way of those that lead somewhere. */

const REDIRECT = 'trusted.overlay.redirect';

guestTest(
  'a directory or metadata of the lowest layer may say anything of where they come from, for nothing is below (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [bottom = ''] = layers;
    await fill(client, bottom, ['led/', 'led/f', 'other/', 'other/x', 'bad/', 'bad/f']);
    await client.setxattr({ path: `${bottom}/led`, name: REDIRECT, data: '/other' });
    await client.setxattr({ path: `${bottom}/bad`, name: REDIRECT, data: 'not/valid' });
    await metadataAlone(client, `${bottom}/m`, { redirect: 'not/valid' });
    for (const [options, metadata] of [
      ['redirect_dir=nofollow', 'EPERM'],
      ['redirect_dir=on', 'EPERM'],
      ['redirect_dir=on,metacopy=on', 'EIO'],
    ] as const) {
      await using overlay = await over(guest, client, layers, options);
      for (const name of ['led', 'bad']) {
        t.is(await client.errno.lstat({ path: overlay.file(name) }), 'ok', `${options}: ${name}`);
        t.deepEqual(await client.readdir({ path: overlay.file(name) }), ['f'], `${options}: list of ${name}`);
      }
      t.is(
        await client.errno.lstat({ path: overlay.file('m') }),
        metadata,
        `${options}: metadata without data below, whatever their redirect is`,
      );
    }
  },
);

guestTest(
  'where redirects are not to be followed, one that has nothing below its directory is no error (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [bottom = '', top = '', upper = ''] = layers;
    await fill(client, bottom, ['low/', 'low/below']);
    await fill(client, top, ['of-top/', 'of-top/d/', 'of-top/d/in-top']);
    await fill(client, upper, ['own/', 'own/d/', 'own/d/above']);
    for (const path of [`${top}/of-top/d`, `${upper}/own/d`]) {
      await client.setxattr({ path, name: REDIRECT, data: '/low' });
    }
    for (const [options, ofTop, own] of [
      // Each parent is in one layer alone: what leads away from it is not asked for.
      ['redirect_dir=nofollow', ['in-top'], ['above']],
      ['redirect_dir=on', ['below', 'in-top'], ['above', 'below']],
    ] as const) {
      await using overlay = await over(guest, client, layers, options);
      for (const [name, names] of [
        ['of-top/d', ofTop],
        ['own/d', own],
      ] as const) {
        const path = overlay.file(name);
        t.is(await client.errno.lstat({ path }), 'ok', `${options}: ${name}`);
        t.deepEqual(await client.readdir({ path }), names, `${options}: list of ${name}`);
      }
    }
  },
);

guestTest(
  'a directory to which a redirect leads has whiteouts that are attributes only if it says so itself (E16)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'whiteouts that are attributes');
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [, middle = '', upper = ''] = layers;
    await fill(client, middle, ['n/', 'n/plain/', 'n/marked/']);
    for (const name of ['plain', 'marked']) {
      const path = `${middle}/n/${name}/empty`;
      await client.writeFile({ path, data: '' });
      await client.setxattr({ path, name: 'trusted.overlay.whiteout', data: 'y' });
      await fill(client, upper, [`${name}/`]);
      await client.setxattr({ path: `${upper}/${name}`, name: REDIRECT, data: `/n/${name}` });
    }
    for (const path of [`${middle}/n`, `${middle}/n/marked`]) {
      await client.setxattr({ path, name: 'trusted.overlay.opaque', data: 'x' });
    }
    await using overlay = await over(guest, client, layers, 'redirect_dir=on');
    const list = (name: string) => client.readdir({ path: overlay.file(name) });
    t.deepEqual(await list('plain'), ['empty'], 'the directory above it is marked, it is not');
    t.deepEqual(await list('marked'), [], 'it is marked');
  },
);
