/** `[PATCH v12 3/7] fuse: …` taken apart. */
export interface SubjectLine {
  readonly title: string;
  /** 1 without a `vN`; with a fraction for the `v3.1` of a single patch sent anew. */
  readonly version: number;
  readonly number: number | undefined;
  readonly total: number | undefined;
  readonly reply: boolean;
}

type Tag = Pick<SubjectLine, 'number' | 'total'> & {
  readonly version: number | undefined;
  /** How surely it is the one that tells a patch's place; 0 for a list's name and the like. */
  readonly weight: number;
};

/** Every bracket goes from the title; one of them counts, because others name lists, trees and versions of them. */
export function parseSubject(subject: string): SubjectLine {
  const match = /^\s*((?:(?:re|aw|fwd?):\s*)*)((?:\[[^\]]*\]\s*)*)(.*)$/isu.exec(subject);
  const tags = [...(match?.[2] ?? '').matchAll(/\[([^\]]*)\]/gu)].map(([, text]) => readTag(text ?? ''));
  const counts = tags.toSorted((a, b) => b.weight - a.weight).find(({ weight }) => weight > 0);
  return {
    title: (match?.[3] ?? subject).trim(),
    version: counts?.version ?? 1,
    number: counts?.number,
    total: counts?.total,
    reply: /^\s*(?:re|aw):/iu.test(match?.[1] ?? ''),
  };
}

/** As people write them and as patchwork does: `PATCH v2 3/7`, `PATCHv2 3/7`, `v2,3/7`, `RFC,v3.1`. */
function readTag(text: string): Tag {
  const words = text.split(/[\s,]+/u).filter((word) => word !== '');
  const places = words.flatMap((word) => /^(\d{1,4})\/(\d{1,4})$/u.exec(word) ?? []);
  const place = places.length === 0 ? undefined : { number: Number(places[1]), total: Number(places[2]) };
  const versions = words.flatMap((word) => /^(?:PATCH-?|RFC-?)?v(\d{1,3}(?:\.\d)?)$/iu.exec(word)?.[1] ?? []);
  const patch = words.some((word) => /^(?:PATCH|RFC)/iu.test(word));
  return {
    number: place?.number,
    total: place?.total,
    version: versions[0] === undefined ? undefined : Number(versions[0]),
    weight: weightOf(place !== undefined, patch, versions.length === words.length && words.length > 0),
  };
}

function weightOf(hasPlace: boolean, patch: boolean, versionAlone: boolean): number {
  if (hasPlace) return patch ? 4 : 3;
  if (patch) return 2;
  return versionAlone ? 1 : 0;
}
