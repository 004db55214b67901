"""Drawn faces with exact landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pocketface.benchmarks.data.synthetic_look import sample_look, sample_moment, sample_motion
from pocketface.benchmarks.data.synthetic_raster import draw, halve
from pocketface.benchmarks.data.synthetic_scene import Light, background, develop
from pocketface.benchmarks.data.synthetic_shape import Head, Identity, View
from pocketface.benchmarks.data.synthetic_sheets import person


@dataclass(frozen=True)
class SyntheticFace:
    image: np.ndarray
    points: np.ndarray
    labels: np.ndarray
    hair: np.ndarray
    pose: tuple[float, float, float]
    seed: int


def rng(*k): return np.random.default_rng(k)

def pack(a):
    o=np.zeros((*a.shape[:2],4),np.uint8);o[...,:3]=a
    return o.view(np.uint32)[...,0]

def render(seed, moments, size):
    who = Identity.sample(rng(seed,1)); look = sample_look(rng(seed,2)); light=Light.sample(rng(seed,3))
    bg = background(rng(seed,4), size)
    out=[]
    for k,m in enumerate(moments):
        head=Head(who,m.does)
        view=View(m.pose)
        p=view.landmarks(head)
        lo,hi=p.min(0),p.max(0)
        r=rng(seed,5)
        scale=size*r.uniform(.47,.62)/(hi-lo).max()
        room=(size-(hi-lo)*scale)/2
        mid=(size-1)/2+ r.uniform(-.5,.5,2)*np.minimum(room*.8,size*.12)+(0,.04*size)
        view=View(m.pose,scale,tuple(mid-scale*(lo+hi)/2))
        canvas=np.repeat(np.repeat(pack(bg),2,0),2,1)
        labels=np.zeros((2*size,2*size),np.uint8)
        draw(person(head,look,view,light,rng(seed,6),size),canvas,labels)
        small=np.asarray(Image.fromarray(canvas.view(np.uint8).reshape(2*size,2*size,4)).convert('RGB').reduce(2));labels=halve(labels)
        img=develop(small,rng(seed,7),rng(seed,8,k))
        out.append(SyntheticFace(img,view.landmarks(head).astype(np.float32),labels,labels==2,m.pose,seed))
    return out

def render_face(seed,size=192): return render(seed,[sample_moment(rng(seed,9))],size)[0]
